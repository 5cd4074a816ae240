"""What processes take of a machine, read from /proc: Linux only."""

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Of a process and all it has started, those that have ended included."""
    return sum(map(_own_cpu_seconds, _family(pid)))


def memory_mib(pid: int) -> float:
    """Of a process and all it has started; what they share counts once."""
    return sum(map(_own_memory_mib, _family(pid)))


def _family(pid: int) -> list[int]:
    children = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _fields(int(folder.name))):
            children[int(fields[1])].append(int(folder.name))
    found = [pid]
    for one in found:
        found.extend(children[one])
    return found


def _fields(pid: int) -> list[str]:
    """Of /proc/PID/stat, from the state on; none for a process that has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _own_cpu_seconds(pid: int) -> float:
    fields = _fields(pid)  # utime, stime, and both of children that were waited for
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def _own_memory_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


@dataclass
class Watched:
    """By the name of a process. `memory` are samples with what `measure` said at the time."""

    cpu_seconds: dict[str, float] = field(default_factory=dict)
    memory: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    def peak_mib(self, name: str, *, until: float = float("inf")) -> float:
        """While `measure` said at most `until`."""
        return max((m[name] for at, m in self.memory if at <= until and name in m), default=0.0)


@contextmanager
def watched(
    process_ids: Callable[[], Mapping[str, int]],
    *,
    measure: Callable[[], float] = lambda: 0.0,
    seconds: float = 1.0,
) -> Iterator[Watched]:
    """Looks at the processes every so often inside the block; CPU seconds are those of the
    block, and are there after it."""
    result, done = Watched(), threading.Event()
    before = {name: cpu_seconds(pid) for name, pid in process_ids().items()}

    def look() -> None:
        while not done.wait(seconds):
            sizes = {name: memory_mib(pid) for name, pid in process_ids().items()}
            result.memory.append((measure(), sizes))

    thread = threading.Thread(target=look, name="watch processes", daemon=True)
    thread.start()
    try:
        yield result
    finally:
        done.set()
        thread.join()
        result.cpu_seconds = {
            name: cpu_seconds(pid) - before.get(name, 0.0) for name, pid in process_ids().items()
        }
