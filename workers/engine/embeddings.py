"""What was seen of images, kept for the next prompt on them: each for the owner who sent it."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Lock

import torch

from workers.engine.engine import Embedding

_HOST = torch.device("cpu")
_Key = tuple[str, str]  # owner, digest


@dataclass(frozen=True, slots=True, eq=False)
class SeenImage:
    """`digest` is the SHA-256 of the file's bytes, `pixels_sha1` the SHA-1 of its pixels (upright,
    8-bit RGB, row by row), both in hex; sizes are those of the upright image."""

    digest: str
    pixels_sha1: str
    width: int
    height: int
    embedding: Embedding


class Embeddings:
    """The most recently used ones: up to `device_bytes` where the engine computes; what falls out
    there is moved to the host's memory, up to `host_bytes`, and then dropped.

    `hits` count calls that were spared the making, `misses` those that were not. Thread-safe.
    """

    def __init__(self, device: torch.device, *, device_bytes: int, host_bytes: int) -> None:
        self.hits = self.misses = 0
        self._device = device
        self._near = _Shelf(device_bytes)
        self._far = _Shelf(host_bytes)
        self._making: dict[_Key, Future[SeenImage]] = {}
        self._lock = Lock()

    @property
    def byte_counts(self) -> dict[str, int]:
        """Of what is kept on the engine's device, and of what in the host's memory."""
        return {"device": self._near.byte_count, "host": self._far.byte_count}

    def recall(self, owner: str, digest: str) -> SeenImage | None:
        with self._lock:
            return self._recall((owner, digest))

    def find(self, owner: str, digest: str, make: Callable[[], SeenImage]) -> SeenImage:
        """Recalled or made; once, however many threads ask. All get what `make` raises, but for
        TimeoutError, which is only the maker's: then another makes it."""
        key = (owner, digest)
        with self._lock:
            if seen := self._recall(key):
                return seen
            made = self._making.get(key)
            if made is None:
                self.misses += 1
                self._making[key] = mine = Future[SeenImage]()
            else:
                self.hits += 1
        if made is None:
            return self._make(key, make, mine)
        try:
            return made.result()
        except TimeoutError:
            return self.find(owner, digest, make)

    def forget(self, owner: str) -> None:
        with self._lock:
            for shelf in (self._near, self._far):
                shelf.forget(owner)

    def _recall(self, key: _Key) -> SeenImage | None:
        seen = self._near.take(key)
        if seen is None:
            seen = self._far.take(key)
            seen = seen and replace(seen, embedding=seen.embedding.to(self._device))
        if seen is not None:
            self.hits += 1
            self._keep(key, seen)
        return seen

    def _make(self, key: _Key, make: Callable[[], SeenImage], made: Future[SeenImage]) -> SeenImage:
        try:
            seen = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            made.set_exception(error)
            raise
        try:
            with self._lock:
                del self._making[key]
                self._keep(key, seen)
        finally:  # keeping may fail; who waits has the image all the same
            made.set_result(seen)
        return seen

    def _keep(self, key: _Key, seen: SeenImage) -> None:
        for spilled_key, spilled in self._near.put(key, seen):
            there = replace(spilled, embedding=spilled.embedding.to(_HOST))
            self._far.put(spilled_key, there)


class _Shelf:
    """Least recently used first."""

    def __init__(self, room_bytes: int) -> None:
        self._room_bytes = room_bytes
        self.byte_count = 0
        self._images: OrderedDict[_Key, SeenImage] = OrderedDict()

    def take(self, key: _Key) -> SeenImage | None:
        seen = self._images.pop(key, None)
        if seen is not None:
            self.byte_count -= seen.embedding.byte_count
        return seen

    def put(self, key: _Key, seen: SeenImage) -> list[tuple[_Key, SeenImage]]:
        """What there is no room for any more."""
        self.take(key)
        self._images[key] = seen
        self.byte_count += seen.embedding.byte_count
        fallen = []
        while self.byte_count > self._room_bytes:
            oldest, fallen_image = next(iter(self._images.items()))
            self.take(oldest)
            fallen.append((oldest, fallen_image))
        return fallen

    def forget(self, owner: str) -> None:
        for key in [key for key in self._images if key[0] == owner]:
            self.take(key)
