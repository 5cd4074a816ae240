"""SAM 3 in this process, without a server: `from maskmill.inference import Sam3`.

Needs `pip install 'maskmill[worker]'`; torch is loaded when a Sam3 is made, not before.

Coordinates are pixels of the image, origin top left. A file (a path, or its bytes) is put upright
by its EXIF orientation and its transparency laid on white; an array or a Pillow image is taken as
it is, so that masks fit it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload
from weakref import finalize

import numpy as np
from PIL import Image

from domain.errors import ImageError
from domain.geometry import Box, Point
from domain.prompts import ConceptPrompt
from domain.rle import unroll
from domain.thresholds import reaches

if TYPE_CHECKING:
    from domain.annotations import Rle
    from workers.engine.engine import Pointed
    from workers.interactive.segmenter import SeenImage, SegmentedMask, Segmenter

__all__ = ["Box", "ConceptPrompt", "EmbeddedImage", "ImageError", "Mask", "ObjectPrompt", "Sam3"]

Out = TypeVar("Out")
Corners = tuple[float, float, float, float]
_HERE = "in-process"  # embeddings belong to somebody; here there is one


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedImage:
    """An image that prompts need not see again. `width` and `height` are the upright image's."""

    width: int
    height: int
    _seen: SeenImage


AnyImage = str | PathLike[str] | bytes | np.ndarray | Image.Image | EmbeddedImage


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """One instance or object. `prompt` is the position of its prompt, `label` that prompt's class
    (of an object: "object"). `box` is the tight (x, y, width, height) of the mask, `area` its pixel
    count, both 0 where it is empty. `score`, 0 to 1, is of a concept how sure the network is, of an
    object how good it thinks the mask."""

    prompt: int
    label: str
    score: float
    box: Corners
    area: int
    _rle: Rle
    _logits: np.ndarray | None

    @property
    def mask(self) -> np.ndarray:
        """height x width, bool; made anew by each call."""
        height, width = self._rle.size
        return unroll(self._rle, (0, 0, width, height)).astype(bool)

    @property
    def rle(self) -> dict[str, Any]:
        """COCO's compressed run lengths, as JSON has them: {"size": [height, width], "counts"}."""
        return {"size": list(self._rle.size), "counts": self._rle.counts.decode()}


@dataclass(frozen=True, slots=True, eq=False)
class ObjectPrompt:
    """One object: points on it, points beside it (`negative`), a box (x0, y0, x1, y1) around it.

    `previous` is a mask of an object in the same image, which this prompt corrects. `multimask`:
    the best of three candidates (whole, part, subpart), which suits a single click; else the one
    for prompts that leave no doubt.
    """

    points: Sequence[tuple[float, float]] = ()
    negative: Sequence[tuple[float, float]] = ()
    box: Corners | None = None
    previous: Mask | None = None
    multimask: bool = True


class Sam3:
    """A network, and the embeddings of the images that it saw last.

    `model`: "demo-sam3" (built in, knows coloured shapes), a directory, a sam3.pt, or a name on the
    Hugging Face hub such as "facebook/sam3". `device`: auto, cpu, cuda or mps. `precision`: auto,
    float32, bfloat16 or float8. Images of more than `max_pixels` are refused. `cache_bytes` are for
    embeddings, on the device and once more in the host's memory.

    Thread-safe: calls from several threads run as one batch. Raises CheckpointError (of
    workers.engine.checkpoint) where the model cannot be loaded.
    """

    def __init__(
        self,
        model: str = "demo-sam3",
        *,
        device: str = "auto",
        precision: str = "auto",
        max_pixels: int = 200_000_000,
        cache_bytes: int = 2**30,
    ) -> None:
        from workers.engine import load_engine
        from workers.interactive.segmenter import Segmenter

        engine = load_engine(model, device=device, precision=precision)
        if engine.notice:
            logging.getLogger(__name__).warning(engine.notice)
        self._threads = ThreadPoolExecutor(2 * engine.images_per_batch, "sam3")
        self._segmenter = Segmenter(
            engine, max_pixels=max_pixels, device_bytes=cache_bytes, host_bytes=cache_bytes
        )
        self._finalizer = finalize(self, _let_go, self._threads, self._segmenter)

    def close(self) -> None:
        """Let go of threads and network, which otherwise happens when the last reference goes. A
        Sam3 is also a context manager that does so at its end."""
        self._finalizer()

    def __enter__(self) -> Sam3:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @overload
    def embed_image(self, images: AnyImage) -> EmbeddedImage: ...

    @overload
    def embed_image(self, images: list[Any]) -> list[EmbeddedImage]: ...

    def embed_image(self, images: Any) -> Any:
        """Of one image or each of a list. Raises ImageError where one cannot be read, and OSError
        where a path leads nowhere; so do all methods."""
        return self._each(self._embed, images)

    @overload
    def segment_image(
        self,
        images: AnyImage,
        prompts: Sequence[str | ConceptPrompt],
        *,
        threshold: float = ...,
    ) -> list[Mask]: ...

    @overload
    def segment_image(
        self,
        images: list[Any],
        prompts: Sequence[str | ConceptPrompt],
        *,
        threshold: float = ...,
    ) -> list[list[Mask]]: ...

    def segment_image(
        self, images: Any, prompts: Sequence[str | ConceptPrompt], *, threshold: float = 0.5
    ) -> Any:
        """All instances of each concept that score `threshold` or more, or the prompt's own
        threshold where it has one; by prompt. A list of images gives a list of such lists.

        A prompt is a noun phrase, or a ConceptPrompt: exemplar boxes of this very image, with or
        without a phrase.
        """
        concepts = [ConceptPrompt(one) if isinstance(one, str) else one for one in prompts]
        return self._each(lambda image: self._segment(image, concepts, threshold), images)

    @overload
    def segment_objects(self, images: AnyImage, prompts: Sequence[ObjectPrompt]) -> list[Mask]: ...

    @overload
    def segment_objects(
        self, images: list[Any], prompts: Sequence[Sequence[ObjectPrompt]]
    ) -> list[list[Mask]]: ...

    def segment_objects(self, images: Any, prompts: Any) -> Any:
        """Exactly one mask, maybe empty, for each prompt, in their order. For a list of images,
        `prompts` has a list for each."""
        if not isinstance(images, list):
            return self._point(images, prompts)
        together = zip(images, prompts, strict=True)
        return list(self._threads.map(lambda both: self._point(*both), together))

    def _each(self, work: Callable[[AnyImage], Out], images: Any) -> Any:
        return list(self._threads.map(work, images)) if isinstance(images, list) else work(images)

    def _embed(self, image: AnyImage) -> EmbeddedImage:
        if isinstance(image, EmbeddedImage):
            return image
        seen = self._segmenter.see(_HERE, _file(image))
        return EmbeddedImage(seen.width, seen.height, seen)

    def _segment(
        self, image: AnyImage, prompts: Sequence[ConceptPrompt], threshold: float
    ) -> list[Mask]:
        wanted = [threshold if one.threshold is None else one.threshold for one in prompts]
        found = self._segmenter.concepts(
            self._embed(image)._seen, prompts, floor=min(wanted, default=threshold)
        )
        return [
            _mask(one, label=prompts[one.prompt].category)
            for one in found
            if reaches(one.score, wanted[one.prompt])
        ]

    def _point(self, image: AnyImage, prompts: Sequence[ObjectPrompt]) -> list[Mask]:
        pointed = [_pointed(prompt) for prompt in prompts]
        found = self._segmenter.objects(self._embed(image)._seen, pointed)
        return [_mask(one, label="object") for one in found]


def _let_go(threads: ThreadPoolExecutor, segmenter: Segmenter) -> None:
    threads.shutdown()
    segmenter.close()


def _file(image: str | PathLike[str] | bytes | np.ndarray | Image.Image) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        return _ppm(image)
    return Path(image).read_bytes()


def _ppm(pixels: np.ndarray) -> bytes:
    """As a file that takes no time to write or read."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            "an array must be height x width x 3, uint8, RGB (images of OpenCV are BGR); "
            f"this one is {' x '.join(map(str, pixels.shape))}, {pixels.dtype}"
        )
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()


def _pointed(prompt: ObjectPrompt) -> Pointed:
    from workers.engine.engine import Pointed

    points = [Point(x, y) for x, y in prompt.points]
    points += [Point(x, y, positive=False) for x, y in prompt.negative]
    previous = prompt.previous._logits if prompt.previous else None
    return Pointed(tuple(points), prompt.box, prompt.multimask, previous)


def _mask(found: SegmentedMask, *, label: str) -> Mask:
    return Mask(found.prompt, label, found.score, found.box, found.area, found.rle, found.logits)
