"""A script that every child starts as: `python -I -S launch.py PARENT SIGNAL UID GID COMMAND...`

It becomes COMMAND after it has given up root (UID >= 0) and asked the kernel for SIGNAL when its
parent dies. `preexec_fn` could do the same, but it runs Python between fork and exec of a process
with threads, which Python's documentation warns may deadlock. It takes about 15 ms.

The order matters: a change of user clears the parent-death signal (prctl(2), PR_SET_PDEATHSIG).
The "parent" is the *thread* that made this process, so that thread must live as long as the child.
Only Linux has this signal; elsewhere children are stopped by the supervisor alone.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def give_up_root(user_id: int, group_id: int) -> None:
    os.setgroups([])
    os.setgid(group_id)
    os.setuid(user_id)


def die_with(parent: int, death_signal: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # it died before prctl: nobody will send the signal any more
        sys.exit(1)


def main(arguments: list[str]) -> None:
    parent, death_signal, user_id, group_id = map(int, arguments[:4])
    command = arguments[4:]
    if user_id >= 0:
        give_up_root(user_id, group_id)
    die_with(parent, death_signal)
    # Python ignores these two, and what is ignored stays ignored through exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming it is the point
    except OSError as error:
        sys.exit(f"Cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
