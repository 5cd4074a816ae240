import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskmill.embedded.child import LOG_BYTES_KEPT, ChildSpec, Owner, spawn
from maskmill.embedded.errors import StackError
from maskmill.embedded.supervisor import BackOff, Supervisor
from tests.services import wait_until

FOREVER = "import time; time.sleep(600)"
STUBBORN = (
    f"import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); {FOREVER}"
)


class Stage:
    """A supervisor with what it said, and children that are a line of Python each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        back_off = BackOff(first_seconds=0.1, longest_seconds=0.4, forgiven_seconds=30)
        self.supervisor = Supervisor(self.said.append, back_off=back_off)

    def spec(self, code: str, *, name: str = "child") -> ChildSpec:
        return ChildSpec(
            name=name,
            argv=(sys.executable, "-c", code),
            environment=dict(os.environ),
            log=self.folder / f"{name}.log",
            folder=self.folder,
        )

    def start(self, code: str, *, name: str = "child") -> int:
        return self.supervisor.start(self.spec(code, name=name)).pid

    def look_until(self, line_start: str, *, count: int = 1) -> None:
        def was_said() -> bool:
            self.supervisor.look_after()
            return sum(line.startswith(line_start) for line in self.said) >= count

        wait_until(was_said)

    def wait_for_log(self, text: str, *, name: str = "child") -> None:
        log = self.folder / f"{name}.log"
        wait_until(lambda: log.exists() and text in log.read_text())

    def stop(self, *names: str, seconds: float = 10) -> None:
        self.supervisor.stop(names or ["child"], seconds=seconds, hurry=threading.Event())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    hurry = threading.Event()
    hurry.set()
    stage.supervisor.stop(list(stage.supervisor.process_ids()), seconds=0, hurry=hurry)


def is_gone(process_id: int) -> bool:
    """A zombie that its new parent has not fetched yet is gone too."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"


def test_a_killed_child_is_started_again_and_that_is_said(stage: Stage) -> None:
    process_id = stage.start(FOREVER)
    os.kill(process_id, signal.SIGKILL)
    stage.look_until("child started again")
    assert stage.supervisor.process_ids()["child"] != process_id
    assert "child ended (signal SIGKILL), starting it again in 0.1 s" in stage.said[0]
    assert str(stage.folder / "child.log") in stage.said[0]


def test_a_child_that_keeps_dying_is_started_less_and_less_often(stage: Stage) -> None:
    stage.start("raise SystemExit(3)")
    stage.look_until("child ended", count=5)
    waits = [line.split(" in ")[1].split(" s.")[0] for line in stage.said if "exit code 3" in line]
    assert waits == ["0.1", "0.2", "0.4", "0.4", "0.4"]


def test_a_child_that_lived_long_is_forgiven(stage: Stage) -> None:
    stage.supervisor.back_off = BackOff(first_seconds=0.1, forgiven_seconds=0)
    stage.start("raise SystemExit(3)")
    stage.look_until("child ended", count=3)
    assert all("in 0.1 s" in line for line in stage.said if "ended" in line)


def test_a_child_that_waits_to_be_started_again_is_not_started_when_stopped(stage: Stage) -> None:
    stage.start("raise SystemExit(3)")
    stage.look_until("child ended")
    stage.stop()
    stage.supervisor.look_after()
    assert stage.supervisor.process_ids() == {}
    assert not [line for line in stage.said if "started again" in line]


def test_a_child_that_ends_while_starting_is_a_failure_that_shows_its_log(stage: Stage) -> None:
    process_id = stage.start("raise SystemExit('no such table')")
    wait_until(lambda: is_gone(process_id))
    with pytest.raises(StackError, match=r"child ended \(exit code 1\)(?s:.*)no such table"):
        stage.supervisor.require_all_alive()


def test_a_program_that_is_not_there_is_named(stage: Stage) -> None:
    spec = ChildSpec("child", ("/no/such/program",), {}, stage.folder / "child.log", stage.folder)
    assert spawn(spec).wait() == 1
    assert "Cannot run /no/such/program: No such file or directory" in spec.log.read_text()


def test_stopping_lets_a_child_finish(stage: Stage) -> None:
    finish = "lambda *_: (print('finished', flush=True), exit())"
    stage.start(
        f"import signal; signal.signal(15, {finish}); print('ready', flush=True); {FOREVER}"
    )
    stage.wait_for_log("ready")
    stage.stop()
    stage.wait_for_log("finished")
    assert stage.said == []


def test_a_child_that_does_not_stop_in_time_is_killed_and_that_is_said(stage: Stage) -> None:
    process_id = stage.start(STUBBORN)
    stage.wait_for_log("ready")
    stage.stop(seconds=0.2)
    assert is_gone(process_id)
    assert stage.said == ["child did not end in 0.2 s: killed"]


def test_hurry_cuts_the_wait_short(stage: Stage) -> None:
    process_id = stage.start(STUBBORN)
    stage.wait_for_log("ready")
    hurry = threading.Event()
    threading.Timer(0.2, hurry.set).start()
    began = time.monotonic()
    stage.supervisor.stop(["child"], seconds=60, hurry=hurry)
    assert time.monotonic() - began < 10
    assert is_gone(process_id)


def test_children_stopped_together_are_waited_for_together(stage: Stage) -> None:
    slow = "lambda *_: (time.sleep(1), exit())"
    code = f"import signal, time; signal.signal(15, {slow}); print('ready', flush=True); {FOREVER}"
    for name in ("one", "two", "three"):
        stage.start(code, name=name)
    for name in ("one", "two", "three"):
        stage.wait_for_log("ready", name=name)
    began = time.monotonic()
    stage.stop("one", "two", "three")
    assert time.monotonic() - began < 2
    assert stage.said == []


def test_ctrl_c_in_the_terminal_reaches_no_child_directly(stage: Stage) -> None:
    process_id = stage.start(FOREVER)
    assert os.getsid(process_id) != os.getsid(0)


def test_logs_are_private_and_go_on_after_a_start(stage: Stage) -> None:
    for text in ("first", "second"):
        assert spawn(stage.spec(f"print('{text}')")).wait() == 0
    log = stage.folder / "child.log"
    assert log.read_text() == "first\nsecond\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_long_log_is_put_aside_at_the_next_start(stage: Stage) -> None:
    log = stage.folder / "child.log"
    log.write_bytes(b"x" * (LOG_BYTES_KEPT + 1))
    assert spawn(stage.spec("print('new')")).wait() == 0
    assert log.read_text() == "new\n"
    assert log.with_name("child.log.1").stat().st_size == LOG_BYTES_KEPT + 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_child_with_an_owner_has_nothing_of_root_left(stage: Stage) -> None:
    spec = ChildSpec(
        name="child",
        argv=("/usr/bin/env", "sh", "-c", "grep -E 'Uid|Gid|Groups|CapEff' /proc/self/status"),
        environment={"PATH": os.defpath},
        log=stage.folder / "child.log",
        folder=Path("/"),
        owner=Owner(12345, 12346),
    )
    assert spawn(spec).wait() == 0
    words = spec.log.read_text().split()
    assert words == [
        *("Uid:", *["12345"] * 4, "Gid:", *["12346"] * 4, "Groups:"),
        *("CapEff:", "0" * 16),
    ]


def program(process_id: int) -> str:
    """The launch script's until it has become the child's."""
    return Path(f"/proc/{process_id}/cmdline").read_text().partition("\0")[0]


PARENT = """
import sys, threading
from pathlib import Path
from maskmill.embedded.child import ChildSpec, Owner
from maskmill.embedded.supervisor import Supervisor

supervisor = Supervisor(print)
owner = Owner(12345, 12345) if sys.argv[2] == "other" else None
for name in ("one", "two"):
    supervisor.start(ChildSpec(name, ("/bin/sleep", "600"), {}, Path(sys.argv[1], name), Path("/"),
                     owner=owner))
print(*supervisor.process_ids().values(), flush=True)
threading.Event().wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PR_SET_PDEATHSIG")
@pytest.mark.parametrize(
    "user",
    [
        "same",
        pytest.param("other", marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can")),
    ],
)
def test_children_die_when_their_parent_is_killed(tmp_path: Path, user: str) -> None:
    argv = [sys.executable, "-c", PARENT, str(tmp_path), user]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        children = [int(word) for word in parent.stdout.readline().split()]
        wait_until(lambda: [program(child) for child in children] == ["/bin/sleep"] * 2)
        parent.kill()
    wait_until(lambda: all(is_gone(child) for child in children), seconds=5)
