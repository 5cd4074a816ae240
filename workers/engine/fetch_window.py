"""How many images are fetched ahead: as few as keep the network busy, fewer when a store protests.

Additive increase, multiplicative decrease, as TCP does it (RFC 5681), slow start included. The
window grows while the network waits for a fetch; it is halved when a store asks for less or takes
too long, once for all the fetches that were on their way then.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Condition
from time import monotonic

from domain.fetching import Fetch, LoneFetch, pause_seconds
from workers.engine.channel import Closed

_current: ContextVar[Fetch | None] = ContextVar("current_fetch", default=None)


def current_fetch() -> Fetch:
    """That of the image whose `load` runs in this thread."""
    return _current.get() or LoneFetch()


class FetchWindow:
    """One for a process: runs share it, and the next one begins with what the last one learnt.

    Between `least` and `most` images are on their way or wait to be decoded. Their files have at
    most `max_bytes`; the oldest image of a run needs no room, or it could wait for ever for those
    behind it, so that each run may have one file more.
    """

    def __init__(self, *, least: int = 4, most: int = 64, max_bytes: int = 512 * 2**20) -> None:
        self.most = most
        self._least = least
        self._max_bytes = max_bytes
        self._limit = float(least)
        self._slow_start_below = math.inf
        self._held = 0
        self._bytes = 0
        self._talking = 0
        self._starved_at = self._cut_at = -math.inf
        self._returning: set[Slot] = set()
        self._changed = Condition()

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def reserve(self, line: "Line") -> "Slot":
        """Wait for room for one more image. Raises Closed."""
        with self._changed:
            self._wait(lambda: not line.slots or self._has_room(), line)
            slot = Slot(self, line)
            line.slots.append(slot)
            line.unfreed.add(slot)
            self._held += 1
            return slot

    def _has_room(self) -> bool:
        return self._held < self.limit and self._bytes < self._max_bytes

    def _wait(self, is_true: Callable[[], object], line: "Line", seconds: float = math.inf) -> None:
        timeout = None if seconds == math.inf else seconds
        self._changed.wait_for(lambda: line.closed or is_true(), timeout)
        if line.closed:
            raise Closed

    def starve(self) -> None:
        """The network waits for a fetch: if the window holds others back, it is too narrow."""
        with self._changed:
            if self._held >= self.limit:
                self._starved_at = monotonic()

    def begin(self, slot: "Slot") -> None:
        with self._changed:
            if slot.line.closed:
                raise Closed
            slot.loading = True
            slot.began = monotonic()
            self._talking += 1

    def end(self, slot: "Slot", *, succeeded: bool) -> None:
        with self._changed:
            slot.loading = False
            if slot.talking:
                self._talking -= 1
            if succeeded and slot.began <= self._starved_at:
                self._grow()
            if slot.line.closed:
                self._free(slot)
            self._changed.notify_all()

    def _grow(self) -> None:
        step = 1.0 if self._limit < self._slow_start_below else 1.0 / self._limit
        self._limit = min(float(self.most), self._limit + step)

    def expect(self, slot: "Slot", size: int) -> None:
        with self._changed:
            more = max(0, size - slot.bytes)
            self._wait(
                lambda: slot is slot.line.slots[0] or self._bytes + more <= self._max_bytes,
                slot.line,
            )
            slot.bytes += more
            self._bytes += more

    def slow_down(self, slot: "Slot") -> None:
        with self._changed:
            if slot.began > self._cut_at:
                self._cut_at = monotonic()
                self._limit = self._slow_start_below = max(float(self._least), self._limit / 2)

    def back_off(self, slot: "Slot", seconds: float) -> None:
        """Wait, then for the slot's turn: retries keep to the window too, the oldest first."""
        with self._changed:
            slot.talking = False
            self._talking -= 1
            self._forget_bytes(slot)
            self._changed.notify_all()
            self._wait(lambda: False, slot.line, seconds)
            self._returning.add(slot)
            try:
                self._wait(lambda: self._may_return(slot), slot.line)
            finally:
                self._returning.discard(slot)
                self._changed.notify_all()
            slot.talking = True
            slot.began = monotonic()
            self._talking += 1

    def _may_return(self, slot: "Slot") -> bool:
        return self._talking < self.limit and slot is min(self._returning, key=Slot.age)

    def take(self, slot: "Slot") -> None:
        """The oldest image goes on to be decoded; its bytes count until it is."""
        with self._changed:
            slot.line.slots.popleft()
            slot.held = False
            self._held -= 1
            self._changed.notify_all()

    def free(self, slot: "Slot") -> None:
        with self._changed:
            self._free(slot)

    def _free(self, slot: "Slot") -> None:
        if slot in slot.line.unfreed:
            slot.line.unfreed.remove(slot)
            self._held -= slot.held
            self._forget_bytes(slot)
            self._changed.notify_all()

    def _forget_bytes(self, slot: "Slot") -> None:
        self._bytes -= slot.bytes
        slot.bytes = 0

    def close(self, line: "Line") -> None:
        """Nobody wants the line's images. Those that are loading are freed when they end."""
        with self._changed:
            line.closed = True
            for slot in [slot for slot in line.unfreed if not slot.loading]:
                self._free(slot)
            self._changed.notify_all()


@dataclass(eq=False)
class Line:
    """The images of one run, oldest first: `slots` until they are taken."""

    slots: deque["Slot"] = field(default_factory=deque)
    unfreed: set["Slot"] = field(default_factory=set)
    closed: bool = False


@dataclass(eq=False)
class Slot:
    """An image's place in the window."""

    window: FetchWindow
    line: Line
    reserved: float = field(default_factory=monotonic)
    began: float = 0.0
    bytes: int = 0
    held: bool = True
    loading: bool = False
    talking: bool = True

    def age(self) -> float:
        return self.reserved

    def expect(self, size: int) -> None:
        self.window.expect(self, size)

    def slow_down(self) -> None:
        self.window.slow_down(self)

    def back_off(self, *, tries: int) -> None:
        self.window.back_off(self, pause_seconds(tries))

    @contextmanager
    def loading_here(self) -> Iterator[None]:
        """Around the call of `load`, in its thread."""
        self.window.begin(self)
        token = _current.set(self)
        succeeded = False
        try:
            yield
            succeeded = True
        finally:
            _current.reset(token)
            self.window.end(self, succeeded=succeeded)
