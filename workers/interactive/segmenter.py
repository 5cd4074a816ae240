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

__all__ = ["SeenImage", "SegmentedMask", "Segmenter"]

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
    alone, and workers.engine.channel.Closed after `close`.
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

    def see(self, owner: str, data: bytes) -> SeenImage:
        """An image file, decoded and embedded, or recalled by its bytes. Raises ImageError."""
        digest = hashlib.sha256(data).hexdigest()
        with self._calling():
            return self._embeddings.find(owner, digest, lambda: self._see(digest, data))

    def recall(self, owner: str, digest: str) -> SeenImage | None:
        """What `see` gave that owner, if it is still kept."""
        return self._embeddings.recall(owner, digest)

    def forget(self, owner: str) -> None:
        self._embeddings.forget(owner)

    def concepts(
        self, image: SeenImage, prompts: Sequence[ConceptPrompt], *, floor: float
    ) -> list[SegmentedMask]:
        """All instances that score `floor` or more, by prompt, then in the order of the network's
        queries. Masks may be empty."""
        with self._calling():
            return self._encode(image, self._concepts.ask(_input(image, prompts, floor=floor)))

    def objects(self, image: SeenImage, prompts: Sequence[Pointed]) -> list[SegmentedMask]:
        """One for each prompt, in their order."""
        with self._calling():
            return self._encode(image, self._objects.ask(_input(image, prompts, floor=0.0)))

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

    def _see(self, digest: str, data: bytes) -> SeenImage:
        pixels = decode(data, max_pixels=self._max_pixels).pixels
        height, width, _ = pixels.shape
        pixels_sha1 = hashlib.sha1(pixels.data, usedforsecurity=False).hexdigest()
        embedding = self._embed.ask(self._engine.squash(pixels))
        return SeenImage(digest, pixels_sha1, width, height, embedding)

    def _encode(self, image: SeenImage, found: Sequence[Found]) -> list[SegmentedMask]:
        in_order = sorted(found, key=lambda one: one.prompt)
        return [_segmented(one, width=image.width, height=image.height) for one in in_order]


def _input(
    image: SeenImage, prompts: Sequence[ConceptPrompt] | Sequence[Pointed], *, floor: float
) -> ImageInput:
    return ImageInput(image.embedding, image.width, image.height, tuple(prompts), floor)


def _segmented(found: Found, *, width: int, height: int) -> SegmentedMask:
    """One full-size mask exists at a time."""
    mask = encode_found(found, width=width, height=height) or empty(width, height)
    return SegmentedMask(found.prompt, found.score, mask.rle, mask.box, mask.area, found.logits)
