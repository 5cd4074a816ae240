"""A bounded queue between two threads that either end can shut without anybody hanging."""

from collections import deque
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The channel was closed: stop working, nobody wants the result."""


class Channel(Generic[T]):
    """queue.Queue with an end: `finish` says that nothing more comes, `close` that all is off."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._items: deque[T] = deque()
        self._finished = False
        self._closed = False
        self._changed = Condition()

    def put(self, item: T) -> None:
        """Wait for room. Raises Closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._room)
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def take(self, limit: int = 1) -> list[T]:
        """Wait for an item and take what is there, up to `limit`; [] at the end. Raises Closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._finished or self._items)
            if self._closed:
                raise Closed
            taken = [self._items.popleft() for _ in range(min(limit, len(self._items)))]
            self._changed.notify_all()
            return taken

    def finish(self) -> None:
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
