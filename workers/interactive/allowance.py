"""What the run of one workflow may still use: blocks, bytes of the answer, pixels drawn on.

The images of a request run in several threads and share all three.
"""

import json
import weakref
from collections import Counter
from dataclasses import dataclass, field
from threading import Condition, Lock
from typing import Any

import numpy as np

from domain.workflows.errors import too_much
from domain.workflows.limits import MAX_BLOCKS, MAX_OUTPUT_BYTES
from workers.interactive.deadlines import check_time


@dataclass
class Allowance:
    """`deadline` is a time of time.monotonic(). Everything that is used up raises WorkflowError;
    time does so with a TimeoutError, as nobody awaits the answer then."""

    deadline: float
    _blocks: int = 0
    _bytes: int = 0
    _lock: Lock = field(default_factory=Lock)

    def use_blocks(self, count: int = 1) -> None:
        """Before they run."""
        check_time(self.deadline)
        with self._lock:
            self._blocks += count
            if self._blocks > MAX_BLOCKS:
                raise too_much(
                    f"it may run {MAX_BLOCKS} blocks, and a crop of an object counts as one"
                )

    def answer(self, part: Any) -> Any:
        """A part of the answer, which goes on as it is. Parts are counted while they are made:
        the JSON of all of them at once might not fit in memory."""
        check_time(self.deadline)
        size = len(json.dumps(part, separators=(",", ":")))
        with self._lock:
            self._bytes += size
            if self._bytes > MAX_OUTPUT_BYTES:
                raise too_much(f"its answer may have {MAX_OUTPUT_BYTES} bytes")
        return part


class Canvases:
    """Pixels that are drawn on, counted as long as anybody has them, also a part of them.

    One image of a request may hold `max_pixels` of them at a time. Several images together hold
    no more either: all but the first of those that run wait until there is room.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._held: Counter[int] = Counter()
        self._running: set[int] = set()
        self._changed = Condition()  # re-entrant: any line may be the one that frees pixels

    def of(self, place: int) -> "ImageCanvases":
        return ImageCanvases(self, place)

    def enter(self, place: int) -> None:
        with self._changed:
            self._running.add(place)

    def leave(self, place: int) -> None:
        with self._changed:
            self._running.discard(place)
            self._changed.notify_all()

    def take(self, pixels: int, *, place: int) -> None:
        with self._changed:
            if self._held[place] + pixels > self._max_pixels:
                raise too_much(f"drawings of one image may hold {self._max_pixels} pixels at once")
            self._changed.wait_for(lambda: self._has_room(pixels, place))
            self._held[place] += pixels

    def give_back(self, pixels: int, place: int) -> None:
        with self._changed:
            self._held[place] -= pixels
            self._changed.notify_all()

    def _has_room(self, pixels: int, place: int) -> bool:
        """The first never waits, so that there is always one that goes on."""
        is_first = place == min(self._running, default=place)
        return is_first or self._held.total() + pixels <= self._max_pixels


@dataclass(frozen=True, slots=True)
class ImageCanvases:
    """Those of the image at one place of the batch."""

    all: Canvases
    place: int

    def __enter__(self) -> "ImageCanvases":
        self.all.enter(self.place)
        return self

    def __exit__(self, *_: object) -> None:
        self.all.leave(self.place)

    def copy(self, pixels: np.ndarray) -> np.ndarray:
        """To draw on: height x width x 3. Raises WorkflowError where there are too many already."""
        count = pixels.shape[0] * pixels.shape[1]
        self.all.take(count, place=self.place)
        canvas = pixels.copy()
        weakref.finalize(canvas, self.all.give_back, count, self.place)
        return canvas
