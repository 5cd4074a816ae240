"""Prompts on single images from many threads, on one engine: what fits goes through together."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

import numpy as np

from domain.annotations import Rle
from domain.prompts import ConceptPrompt
from workers.engine.batcher import Batcher
from workers.engine.decoding import decode
from workers.engine.embeddings import Embeddings, SeenImage
from workers.engine.engine import Engine, Found, ImageInput, Pointed
from workers.engine.mask_encoding import empty
from workers.engine.stages import encode_found
from workers.interactive.deadlines import NEVER, check_time

__all__ = ["SeenImage", "SegmentedMask", "Segmenter"]

# What one request has in a batch at a time: others' come in between, and its deadline is looked at.
_CONCEPTS_AT_ONCE = 16
_OBJECTS_AT_ONCE = 64

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedMask:
    """`prompt`: the position of the prompt that it answers. `box` is the tight (x, y, width,
    height) of the set pixels, `area` their count; both are 0 for an empty mask. `logits`, of
    objects only, can be the `previous` of a prompt that refines this mask: h x w float32."""

    prompt: int
    score: float
    rle: Rle
    box: tuple[float, float, float, float]
    area: int
    logits: np.ndarray | None = None


class Segmenter:
    """Thread-safe. Images of more than `max_pixels` are refused. Embeddings stay for the next
    prompts: up to `device_bytes` on the engine's device, then up to `host_bytes` in the host's
    memory; on a CPU, where both are the same, up to `device_bytes`.

    Every call that computes raises ImageError (out_of_memory) where an image is too large even
    alone, TimeoutError once its `deadline`, a time of time.monotonic(), is over, and
    workers.engine.channel.Closed after `close`.
    """

    def __init__(
        self, engine: Engine, *, max_pixels: int, device_bytes: int, host_bytes: int
    ) -> None:
        self._engine = engine
        self._max_pixels = max_pixels
        self._embeddings = Embeddings(
            engine.device,
            device_bytes=device_bytes,
            host_bytes=0 if engine.device.type == "cpu" else host_bytes,
        )
        self._callers = 0
        self._lock = Lock()
        self._embed = self._batcher("embed", engine.embed)
        # Apart, as a click takes a fraction of the time and need not wait for a concept's masks.
        self._concepts = self._batcher("concepts", engine.segment)
        self._objects = self._batcher("objects", engine.segment)

    @property
    def hits(self) -> int:
        return self._embeddings.hits

    @property
    def misses(self) -> int:
        return self._embeddings.misses

    @property
    def embedding_bytes(self) -> dict[str, int]:
        return self._embeddings.byte_counts

    def see(self, owner: str, data: bytes, *, deadline: float = NEVER) -> SeenImage:
        """An image file, decoded and embedded, or recalled by its bytes. Raises ImageError."""
        digest = hashlib.sha256(data).hexdigest()
        with self._calling():
            return self._embeddings.find(owner, digest, lambda: self._see(digest, data, deadline))

    def recall(self, owner: str, digest: str) -> SeenImage | None:
        """What `see` gave that owner, if it is still kept."""
        return self._embeddings.recall(owner, digest)

    def forget(self, owner: str) -> None:
        self._embeddings.forget(owner)

    def concepts(
        self,
        image: SeenImage,
        prompts: Sequence[ConceptPrompt],
        *,
        floor: float,
        deadline: float = NEVER,
    ) -> list[SegmentedMask]:
        """All instances that score `floor` or more, by prompt, then in the order of the network's
        queries. Masks may be empty."""
        masks: list[SegmentedMask] = []
        for first in range(0, len(prompts), _CONCEPTS_AT_ONCE):
            some = _input(image, prompts[first : first + _CONCEPTS_AT_ONCE], floor=floor)
            masks += self._masks(self._concepts, some, first=first, deadline=deadline)
        return masks

    def objects(
        self, image: SeenImage, prompts: Sequence[Pointed], *, deadline: float = NEVER
    ) -> list[SegmentedMask]:
        """One for each prompt, in their order."""
        masks: list[SegmentedMask] = []
        for first in range(0, len(prompts), _OBJECTS_AT_ONCE):
            some = _input(image, prompts[first : first + _OBJECTS_AT_ONCE], floor=0.0)
            masks += self._masks(self._objects, some, first=first, deadline=deadline)
        return masks

    def close(self) -> None:
        """Whoever is being served is served; whoever comes later gets Closed."""
        for batcher in (self._embed, self._concepts, self._objects):
            batcher.close()

    def _batcher(self, name: str, work: Callable[[Sequence[In]], list[Out]]) -> Batcher[In, Out]:
        return Batcher(
            work,
            name=f"segmenter-{name}",
            device=self._engine.device,
            most=lambda: self._engine.images_per_batch,
            callers=lambda: self._callers,
        )

    @contextmanager
    def _calling(self) -> Iterator[None]:
        with self._lock:
            self._callers += 1
        try:
            yield
        finally:
            with self._lock:
                self._callers -= 1

    def _see(self, digest: str, data: bytes, deadline: float) -> SeenImage:
        check_time(deadline)
        pixels = decode(data, max_pixels=self._max_pixels).pixels
        height, width, _ = pixels.shape
        pixels_sha1 = hashlib.sha1(pixels.data, usedforsecurity=False).hexdigest()
        squashed = self._engine.squash(pixels)
        del pixels  # many may wait for the network
        check_time(deadline)
        return SeenImage(digest, pixels_sha1, width, height, self._embed.ask(squashed))

    def _masks(
        self,
        batcher: Batcher[ImageInput, list[Found]],
        asked: ImageInput,
        *,
        first: int,
        deadline: float,
    ) -> Iterator[SegmentedMask]:
        """`first`: the position of its first prompt among the request's."""
        check_time(deadline)
        with self._calling():
            found = batcher.ask(asked)
        for one in sorted(found, key=lambda one: one.prompt):
            check_time(deadline)
            yield _segmented(one, first=first, width=asked.width, height=asked.height)


def _input(
    image: SeenImage, prompts: Sequence[ConceptPrompt] | Sequence[Pointed], *, floor: float
) -> ImageInput:
    return ImageInput(image.embedding, image.width, image.height, tuple(prompts), floor)


def _segmented(found: Found, *, first: int, width: int, height: int) -> SegmentedMask:
    """One full-size mask exists at a time."""
    mask = encode_found(found, width=width, height=height) or empty(width, height)
    prompt = first + found.prompt
    return SegmentedMask(prompt, found.score, mask.rle, mask.box, mask.area, found.logits)
