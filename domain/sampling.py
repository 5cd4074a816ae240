"""Images chosen by chance out of a stream, each as likely as any other."""

import heapq
from collections.abc import Iterable
from hashlib import blake2b
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Sampler(Generic[ItemT]):
    """Keeps `size` of the items offered: those whose positions have the smallest hashes (bottom-k
    sampling, Cohen and Kaplan 2007). It need not know how many will come, and goes on from what
    another one of the same `seed` had `kept`; the same positions give the same choice."""

    def __init__(self, size: int, *, seed: str, kept: Iterable[tuple[int, ItemT]] = ()) -> None:
        self._size = size
        self._seed = seed.encode()
        self._kept: list[tuple[int, int, ItemT]] = []
        for position, item in kept:
            self.offer(position, item)

    def offer(self, position: int, item: ItemT) -> None:
        """`position` is the item's own; none comes twice."""
        entry = (-self._hash(position), position, item)
        if len(self._kept) < self._size:
            heapq.heappush(self._kept, entry)
        elif entry[0] > self._kept[0][0]:
            heapq.heapreplace(self._kept, entry)

    def chosen(self) -> list[ItemT]:
        """In the order of their positions."""
        return [item for _, _, item in sorted(self._kept, key=lambda entry: entry[1])]

    def _hash(self, position: int) -> int:
        digest = blake2b(position.to_bytes(8, "big"), key=self._seed[:64], digest_size=8)
        return int.from_bytes(digest.digest(), "big")
