"""What happens to one image, in three steps that the pipeline runs on different threads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from torch import Tensor

from domain.annotations import ImageOutcome, Instance
from domain.errors import ImageError
from domain.prompts import ConceptPrompt, Prompt
from domain.stages import Stage
from workers.engine.decoding import decode
from workers.engine.engine import Engine, Found, ImageInput
from workers.engine.halving import halving
from workers.engine.image_task import ImageTask
from workers.engine.jpeg_on_device import DeviceJpeg, suits
from workers.engine.mask_encoding import EncodedMask, encode, encode_changes
from workers.engine.mask_resizing import resize
from workers.engine.observing import Observe, unobserved

SATURATED_SHARE = 0.95  # of the network's queries: there may be more objects than it can return


@dataclass(frozen=True, slots=True)
class Prepared:
    """Decoded and squashed, but for a JPEG that is left to the device."""

    task: ImageTask
    image: ImageInput | DeviceJpeg
    orientation: int
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Computed:
    """`found` is an error where there was not enough memory even for this image alone, or where
    a JPEG that was left to the device turned out to be broken."""

    prepared: Prepared
    found: list[Found] | ImageError
    milliseconds: float


class Stages:
    """`milliseconds` count decoding, encoding, and an equal share of the batch; not fetching."""

    def __init__(
        self, engine: Engine, *, floor: float, max_pixels: int, observe: Observe = unobserved
    ) -> None:
        self._engine = engine
        self._observe = observe
        self._encoded = 0
        self._floor = floor
        self._max_pixels = max_pixels

    @property
    def steps(self) -> int:
        return self._engine.steps + self._encoded

    def prepare(self, task: ImageTask, data: bytes) -> Prepared:
        """Decode and squash, or leave that to the device. Raises ImageError."""
        started = perf_counter()
        image, orientation = self._prepared(data, task.prompts)
        return Prepared(task, image, orientation, self._milliseconds("decode", started))

    def _prepared(
        self, data: bytes, prompts: tuple[Prompt, ...]
    ) -> tuple[ImageInput | DeviceJpeg, int]:
        jpeg = suits(data, max_pixels=self._max_pixels) if self._engine.squash_jpegs else None
        if jpeg is not None:
            return jpeg, jpeg.orientation
        return self._decode(data, prompts)

    def _decode(self, data: bytes, prompts: tuple[Prompt, ...]) -> tuple[ImageInput, int]:
        """The full-size pixels are let go here: later steps need only the sizes."""
        decoded = decode(data, max_pixels=self._max_pixels)
        height, width, _ = decoded.pixels.shape
        squashed = self._engine.squash(decoded.pixels)
        return ImageInput(squashed, width, height, prompts, self._floor), decoded.orientation

    def compute(self, batch: Sequence[Prepared]) -> list[Computed]:
        started = perf_counter()
        results = self._segment(batch)
        share = self._milliseconds("network", started) / len(batch)
        return [
            Computed(prepared, found, prepared.milliseconds + share)
            for prepared, found in zip(batch, results, strict=True)
        ]

    def _segment(self, batch: Sequence[Prepared]) -> list[list[Found] | ImageError]:
        return halving(self._segment_at_once, batch, device=self._engine.device)

    def _segment_at_once(self, batch: Sequence[Prepared]) -> list[list[Found] | ImageError]:
        images = self._images(batch)
        usable = [image for image in images if isinstance(image, ImageInput)]
        found = iter(self._engine.segment(usable) if usable else ())
        return [next(found) if isinstance(image, ImageInput) else image for image in images]

    def _images(self, batch: Sequence[Prepared]) -> list[ImageInput | ImageError]:
        jpegs = [prepared.image for prepared in batch if isinstance(prepared.image, DeviceJpeg)]
        squash_jpegs = self._engine.squash_jpegs
        squashed = iter(squash_jpegs(jpegs) if squash_jpegs else ())
        return [
            self._image(prepared.image, next(squashed), prepared.task.prompts)
            if isinstance(prepared.image, DeviceJpeg)
            else prepared.image
            for prepared in batch
        ]

    def _image(
        self, jpeg: DeviceJpeg, squashed: Tensor | None, prompts: tuple[Prompt, ...]
    ) -> ImageInput | ImageError:
        """What the device refuses, Pillow decodes, or says why it cannot."""
        if squashed is not None:
            return ImageInput(squashed, jpeg.width, jpeg.height, prompts, self._floor)
        try:
            return self._decode(jpeg.data, prompts)[0]
        except ImageError as error:
            return error

    def encode(self, computed: Computed) -> ImageOutcome:
        started = perf_counter()
        prepared = computed.prepared
        outcome = ImageOutcome(
            width=prepared.image.width,
            height=prepared.image.height,
            orientation=prepared.orientation,
            milliseconds=computed.milliseconds,
        )
        if isinstance(computed.found, ImageError):
            error = computed.found
            return replace(outcome, error_code=error.code, error_message=error.message)
        return replace(
            outcome,
            instances=tuple(self._instances(prepared, computed.found)),
            saturated_prompts=self._saturated(prepared.task, computed.found),
            milliseconds=computed.milliseconds + self._milliseconds("encode", started),
        )

    def _milliseconds(self, stage: Stage, started: float) -> float:
        seconds = perf_counter() - started
        self._observe(stage, seconds)
        return seconds * 1000

    def _instances(self, prepared: Prepared, found: list[Found]) -> Iterator[Instance]:
        """By prompt, best first. One full-size mask exists at a time."""
        task, image = prepared.task, prepared.image
        for one in sorted(found, key=lambda one: (one.prompt, -one.score)):
            encoded = encode_found(one, width=image.width, height=image.height)
            self._encoded += 1
            if encoded is None:
                continue
            yield Instance(
                prompt_index=task.first_prompt_index + one.prompt,
                category=task.prompts[one.prompt].category,
                score=one.score,
                box=encoded.box,
                area=encoded.area,
                mask=encoded.rle,
            )

    def _saturated(self, task: ImageTask, found: list[Found]) -> tuple[int, ...]:
        enough = SATURATED_SHARE * self._engine.limits.queries
        return tuple(
            task.first_prompt_index + position
            for position, prompt in enumerate(task.prompts)
            if isinstance(prompt, ConceptPrompt)
            and sum(one.prompt == position for one in found) >= enough
        )


def encode_found(found: Found, *, width: int, height: int) -> EncodedMask | None:
    mask = found.mask
    if isinstance(mask, np.ndarray):
        return encode_changes(mask, width=width, height=height)
    crop = resize(mask.numpy(), width=width, height=height)
    return encode(crop) if crop else None
