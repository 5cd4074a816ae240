"""Keeps children running: starts again what dies, with back-off, and stops all in order."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from maskmill.embedded.child import ChildSpec, describe_exit, log_tail, spawn
from maskmill.embedded.errors import StackError

LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class BackOff:
    """Waits double from `first_seconds`; a child that lived `forgiven_seconds` starts afresh."""

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    forgiven_seconds: float = 60.0

    def seconds(self, failures: int) -> float:
        return min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - 1, 30))


@dataclass
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[bytes]
    started_at: float
    failures: int = 0
    start_again_at: float | None = None


@dataclass
class Supervisor:
    """Every method but `process_ids` belongs to one thread, which must live as long as the
    children do: they die with the thread that made them (see launch.py).

    `kept_open` are descriptors that every child inherits.
    """

    announce: Callable[[str], None]
    kept_open: Sequence[int] = ()
    back_off: BackOff = BackOff()
    _children: dict[str, _Child] = field(default_factory=dict)

    def start(self, spec: ChildSpec) -> subprocess.Popen[bytes]:
        process = spawn(spec, kept_open=self.kept_open)
        self._children[spec.name] = _Child(spec, process, time.monotonic())
        return process

    def start_once(self, spec: ChildSpec) -> subprocess.Popen[bytes]:
        """A child that is meant to end and is not looked after."""
        return spawn(spec, kept_open=self.kept_open)

    def process_ids(self) -> dict[str, int]:
        """Of the children that run now; one that waits to be started again is not among them."""
        running = [c for c in self._children.copy().values() if c.process.returncode is None]
        return {child.spec.name: child.process.pid for child in running}

    def require_all_alive(self) -> None:
        """For the time of starting, when a death is a failure: StackError with the log's tail."""
        for child in self._children.values():
            returncode = child.process.poll()
            if returncode is not None:
                raise failure(child.spec, returncode)

    def look_after(self) -> None:
        """Notices deaths and starts again what is due. Call it every LOOK_SECONDS."""
        for child in self._children.values():
            if child.start_again_at is not None:
                self._start_again_if_due(child)
            elif child.process.poll() is not None:
                self._plan_start(child)

    def _plan_start(self, child: _Child) -> None:
        lived_seconds = time.monotonic() - child.started_at
        forgiven = lived_seconds >= self.back_off.forgiven_seconds
        child.failures = 1 if forgiven else child.failures + 1
        wait_seconds = self.back_off.seconds(child.failures)
        child.start_again_at = time.monotonic() + wait_seconds
        self.announce(
            f"{child.spec.name} ended ({describe_exit(child.process.returncode)}), "
            f"starting it again in {wait_seconds:g} s. Its log: {child.spec.log}"
        )

    def _start_again_if_due(self, child: _Child) -> None:
        if child.start_again_at is None or time.monotonic() < child.start_again_at:
            return
        child.start_again_at = None
        child.process = spawn(child.spec, kept_open=self.kept_open)
        child.started_at = time.monotonic()
        self.announce(f"{child.spec.name} started again (process {child.process.pid})")

    def stop(self, names: Iterable[str], *, seconds: float, hurry: threading.Event) -> None:
        """Asks the named children to end and waits; kills them after `seconds` or at `hurry`."""
        stopping = [self._children.pop(name) for name in names if name in self._children]
        for child in stopping:
            _send(child, child.spec.stop_signal)
        deadline = time.monotonic() + seconds
        while any(_runs(c) for c in stopping) and time.monotonic() < deadline:
            if hurry.wait(LOOK_SECONDS):
                break
        for child in filter(_runs, stopping):
            if not hurry.is_set():
                self.announce(f"{child.spec.name} did not end in {seconds:g} s: killed")
            _send(child, child.spec.kill_signal)
        for child in stopping:
            _wait_or_kill(child)


def failure(spec: ChildSpec, returncode: int) -> StackError:
    return StackError(
        f"{spec.name} ended ({describe_exit(returncode)}). "
        f"The end of its log, {spec.log}:\n{log_tail(spec.log)}"
    )


def _runs(child: _Child) -> bool:
    return child.process.poll() is None


def _send(child: _Child, number: int) -> None:
    if _runs(child):
        child.process.send_signal(number)


def _wait_or_kill(child: _Child) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(timeout=5)
        return
    child.process.kill()
    child.process.wait()
