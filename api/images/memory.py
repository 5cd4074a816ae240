"""How much memory pictures take, whatever is asked for at once."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from domain.fetching import LoneFetch


class Room:
    """So many bytes may be in use at a time; whoever wants more has all of them alone."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Waits until there is room."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


class RoomyFetch(LoneFetch):
    """Has room for a file from when its size is known until `holding` ends; `unknown` is taken for
    a size that the server does not tell."""

    def __init__(self, room: Room, holding: ExitStack, *, unknown: int) -> None:
        self._room = room
        self._holding = holding
        self._unknown = unknown

    def expect(self, size: int) -> None:
        self._holding.close()  # of a try that failed
        self._holding.enter_context(self._room.taken(size or self._unknown))
