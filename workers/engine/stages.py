"""What happens to one image, in three steps that the pipeline runs on different threads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch

from domain.annotations import ImageOutcome, Instance, failure
from domain.errors import ImageError, ImageErrorCode
from domain.prompts import ConceptPrompt, Prompt
from workers.engine.decoding import decode
from workers.engine.engine import Engine, Found, ImageInput
from workers.engine.mask_encoding import encode
from workers.engine.mask_resizing import resize

SATURATED_SHARE = 0.95  # of the network's queries: there may be more objects than it can return


@dataclass(frozen=True, slots=True)
class ImageTask:
    """`load` fetches the file's bytes. An ImageError it raises becomes the image's outcome; any
    other exception ends the run. Prompts are numbered from `first_prompt_index`."""

    load: Callable[[], bytes]
    prompts: tuple[Prompt, ...]
    first_prompt_index: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    task: ImageTask
    image: ImageInput
    orientation: int
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Computed:
    """`found` is None where there was not enough memory even for this image alone."""

    prepared: Prepared
    found: list[Found] | None
    milliseconds: float


class Stages:
    """`milliseconds` count decoding, encoding, and an equal share of the batch; not fetching."""

    def __init__(self, engine: Engine, *, floor: float, max_pixels: int) -> None:
        self._engine = engine
        self._floor = floor
        self._max_pixels = max_pixels

    def prepare(self, task: ImageTask) -> Prepared | ImageOutcome:
        """Load, decode and squash. The full-size pixels are let go here: later steps need only
        the sizes."""
        try:
            data = task.load()
            started = perf_counter()
            decoded = decode(data, max_pixels=self._max_pixels)
        except ImageError as error:
            return failure(error.code, error.message)
        height, width, _ = decoded.pixels.shape
        squashed = self._engine.squash(decoded.pixels)
        image = ImageInput(squashed, width, height, task.prompts)
        return Prepared(task, image, decoded.orientation, _milliseconds_since(started))

    def compute(self, batch: Sequence[Prepared]) -> list[Computed]:
        started = perf_counter()
        results = self._segment([prepared.image for prepared in batch])
        share = _milliseconds_since(started) / len(batch)
        return [
            Computed(prepared, found, prepared.milliseconds + share)
            for prepared, found in zip(batch, results, strict=True)
        ]

    def _segment(self, images: list[ImageInput]) -> list[list[Found] | None]:
        """Halves a batch that is too large for the memory, down to single images."""
        try:
            return list(self._engine.segment(images, floor=self._floor))
        except torch.OutOfMemoryError:
            pass  # retried below, where no traceback holds the tensors any more
        if self._engine.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(images) == 1:
            return [None]
        half = len(images) // 2
        return self._segment(images[:half]) + self._segment(images[half:])

    def encode(self, computed: Computed) -> ImageOutcome:
        started = perf_counter()
        if computed.found is None:
            return self._out_of_memory(computed)
        return ImageOutcome(
            width=computed.prepared.image.width,
            height=computed.prepared.image.height,
            orientation=computed.prepared.orientation,
            instances=tuple(self._instances(computed.prepared, computed.found)),
            saturated_prompts=self._saturated(computed.prepared.task, computed.found),
            milliseconds=computed.milliseconds + _milliseconds_since(started),
        )

    def _instances(self, prepared: Prepared, found: list[Found]) -> Iterator[Instance]:
        """By prompt, best first. One full-size mask exists at a time."""
        task, image = prepared.task, prepared.image
        for one in sorted(found, key=lambda one: (one.prompt, -one.score)):
            crop = resize(one.mask.cpu().numpy(), width=image.width, height=image.height)
            encoded = encode(crop) if crop else None
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

    def _out_of_memory(self, computed: Computed) -> ImageOutcome:
        return ImageOutcome(
            width=computed.prepared.image.width,
            height=computed.prepared.image.height,
            orientation=computed.prepared.orientation,
            error_code=ImageErrorCode.OUT_OF_MEMORY,
            error_message=f"not enough memory on {self._engine.device} for this image alone",
            milliseconds=computed.milliseconds,
        )


def _milliseconds_since(started: float) -> float:
    return (perf_counter() - started) * 1000
