"""A network that is none, for benchmarks and tests: everything happens but labelling.

The model `null` answers at once, `null:20ms` after so long for each image. Every image is fetched,
so that sources, stores and their faults are met, but none is decoded. Names of images make faults:
`kill-worker` ends the process as the kernel would, `hang-worker` never returns, `slow-image` takes
a second.
"""

import os
import re
import signal
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from zlib import crc32

import numpy as np

from domain.annotations import ImageOutcome, Instance, failure
from domain.errors import ImageError
from domain.prompts import ModelLimits, Prompt
from storage.lane import WorkerLane
from workers.engine.image_task import ImageTask
from workers.engine.mask_encoding import EncodedMask, encode_changes
from workers.engine.observing import Observe, unobserved

_NAME = re.compile(r"null(?::(\d{1,6})ms)?")
_WIDTH, _HEIGHT = 640, 480  # of every image, whatever its file says
_INSTANCES = 5
_BOXES = 1024
_TOKENIZER = Path(__file__).parent / "engine" / "demo_sam3" / "tokenizer.json"


def is_null(model: str) -> bool:
    return _NAME.fullmatch(model) is not None


class NullEngine:
    """The same answer for the same name of an image, wherever and whenever it is asked."""

    weights_sha256 = "0" * 64
    limits = ModelLimits(text_tokens=32, queries=200, image_size=1008)

    def __init__(self, model: str) -> None:
        delay = _NAME.fullmatch(model)
        assert delay is not None
        self.tokenizer_json = _TOKENIZER.read_text("utf-8")
        self._seconds = int(delay[1] or 0) / 1000
        self._masks = [_box_mask(number) for number in range(_BOXES)]

    def pipeline(
        self,
        *,
        floor: float,
        max_pixels: int,  # noqa: ARG002
        observe: Observe = unobserved,  # noqa: ARG002
    ) -> "NullPipeline":
        return NullPipeline(self._masks, floor=floor, seconds=self._seconds)

    def giving_way(self, lane: WorkerLane) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()


class NullPipeline:
    """As workers.engine.pipeline.Pipeline, one image after the other in the caller's thread."""

    steps = 0

    def __init__(self, masks: Sequence[EncodedMask], *, floor: float, seconds: float) -> None:
        self._masks = masks
        self._floor = floor
        self._seconds = seconds

    def run(self, tasks: Iterable[ImageTask]) -> Generator[ImageOutcome, None, None]:
        for task in tasks:
            try:
                task.load()
            except ImageError as error:
                yield failure(error.code, error.message)
                continue
            _meet_faults(task.name)
            if self._seconds:
                time.sleep(self._seconds)
            yield self._outcome(task)

    def _outcome(self, task: ImageTask) -> ImageOutcome:
        digest = crc32(task.name.encode())
        instances = tuple(
            instance
            for number in range(_INSTANCES)
            if (instance := self._instance(task, number, digest)).score >= self._floor
        )
        return ImageOutcome(_WIDTH, _HEIGHT, 1, instances, milliseconds=self._seconds * 1000)

    def _instance(self, task: ImageTask, number: int, digest: int) -> Instance:
        position = number % len(task.prompts)
        prompt: Prompt = task.prompts[position]
        mask = self._masks[(digest + 211 * number) % _BOXES]
        return Instance(
            prompt_index=task.first_prompt_index + position,
            category=prompt.category,
            score=0.5 + ((digest >> 8) + number) % 50 / 100,
            box=mask.box,
            area=mask.area,
            mask=mask.rle,
        )


def _meet_faults(name: str) -> None:
    if "kill-worker" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    elif "hang-worker" in name:
        threading.Event().wait()
    elif "slow-image" in name:
        time.sleep(1)


def _box_mask(number: int) -> EncodedMask:
    """A filled box; `number` moves and sizes it."""
    width, height = 8 + number % 61, 8 + number % 47
    x, y = number * 37 % (_WIDTH - width), number * 53 % (_HEIGHT - height)
    tops = (x + np.arange(width)) * _HEIGHT + y
    encoded = encode_changes(
        np.stack((tops, tops + height), axis=1).ravel(), width=_WIDTH, height=_HEIGHT
    )
    assert encoded is not None
    return encoded
