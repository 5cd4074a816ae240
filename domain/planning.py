"""How a job is cut: into shards that are leased, and slices that are committed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from domain.prompts import PROMPTS_PER_PASS

MAX_SHARD_IMAGES = 256
MAX_SLICE_IMAGES = 64
FIRST_SLICE_IMAGES = 8  # until it is known how long an image takes
SLICE_SECONDS = 3.0  # what a crash costs at most, and how often progress is seen
PASSES_PER_SHARD = 1024  # image x prompt-group passes: keeps a shard to a few minutes


def images_per_shard(prompt_count: int) -> int:
    """At most 256, fewer when every image takes many passes of 16 prompts."""
    passes = max(1, ceil(prompt_count / PROMPTS_PER_PASS))
    return max(1, min(MAX_SHARD_IMAGES, PASSES_PER_SHARD // passes))


def images_per_slice(seconds_per_image: float) -> int:
    """At most 64, fewer where images are slow, so that work is committed every few seconds."""
    return max(1, min(MAX_SLICE_IMAGES, int(SLICE_SECONDS / max(seconds_per_image, 1e-9))))


@dataclass(frozen=True, slots=True)
class Span:
    """Images `start` up to `start + count` of a shard."""

    start: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count

    def covers(self, position: int) -> bool:
        return self.start <= position < self.end


@dataclass(frozen=True, slots=True)
class NextSlice:
    """The images to run next.

    `alone`: a worker died here before, so nothing else may be in flight beside this slice.
    `blamed`: this one image has killed its worker by itself, and is not run again.
    """

    span: Span
    alone: bool = False
    blamed: bool = False


def next_slice(
    position: int, *, shard_images: int, lost: Sequence[Span], most: int = MAX_SLICE_IMAGES
) -> NextSlice:
    """Choose the slice that starts at `position`, of `most` images at most.

    `lost` are the slices that earlier runners of this shard had in flight when they died. A
    region that has killed a worker is run in eighths of the smallest loss there, so that a
    poison image stands alone after two more losses. Alone and lost twice, it is blamed.
    """
    room = min(most, shard_images - position)
    suspects = [span for span in lost if span.covers(position)]
    if not suspects:
        return NextSlice(Span(position, room))
    if sum(span == Span(position, 1) for span in suspects) >= 2:
        return NextSlice(Span(position, 1), alone=True, blamed=True)
    smallest = min(suspects, key=lambda span: span.count)
    count = max(1, smallest.count // 8)
    return NextSlice(Span(position, min(count, room, smallest.end - position)), alone=True)
