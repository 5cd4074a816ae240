"""One child process: what it is, how it is started, what its log says."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskmill.embedded.private_files import open_private

LAUNCH_SCRIPT = Path(__file__).with_name("launch.py")
LOG_BYTES_KEPT = 10 * 2**20


@dataclass(frozen=True)
class Owner:
    """The user a child runs as, when this process is root."""

    user_id: int
    group_id: int


@dataclass(frozen=True)
class ChildSpec:
    """`log` takes its output; `death_signal` comes when the thread that started it ends."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    folder: Path
    owner: Owner | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    death_signal: signal.Signals = signal.SIGKILL


def launched(
    argv: Sequence[str],
    *,
    owner: Owner | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> list[str]:
    """`argv` so that it runs as `owner` and dies with the thread that starts it."""
    user_id, group_id = (owner.user_id, owner.group_id) if owner else (-1, -1)
    numbers = [str(int(n)) for n in (os.getpid(), death_signal, user_id, group_id)]
    return [sys.executable, "-I", "-S", str(LAUNCH_SCRIPT), *numbers, *argv]


def spawn(spec: ChildSpec, *, kept_open: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C in the terminal does not reach it past its parent."""
    put_aside_long_log(spec.log)
    with os.fdopen(open_private(spec.log, os.O_WRONLY | os.O_APPEND), "ab") as log:
        return subprocess.Popen(  # noqa: S603 - argv is ours
            launched(spec.argv, owner=spec.owner, death_signal=spec.death_signal),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=spec.folder,
            env=dict(spec.environment),
            start_new_session=True,
            pass_fds=tuple(kept_open),
        )


def put_aside_long_log(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_BYTES_KEPT:
        log.replace(log.with_name(log.name + ".1"))


def log_tail(log: Path, *, lines: int = 20) -> str:
    """The last lines, at most 16 KiB; empty when there is no log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16 * 2**10))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def describe_exit(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    return f"signal {signal.Signals(-returncode).name}"
