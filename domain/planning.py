"""How a job is cut: into shards that are leased, and slices that are committed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from domain.prompts import PROMPTS_PER_PASS

MAX_SHARD_IMAGES = 256
MAX_SLICE_IMAGES = 64
FIRST_SLICE_IMAGES = 8  # until it is known how long an image takes
BLAMED_LOSSES = 3
SLICE_SECONDS = 3.0  # what a crash costs at most, and how often progress is seen
PASSES_PER_SHARD = 1024  # image x prompt-group passes: keeps a shard to a few minutes
MARKS_PER_SHARD = 100_000  # keeps a shard's list to some megabytes


@dataclass(slots=True)
class ShardBudget:
    """What a shard holds so far. Images that take many passes or marks make it shorter."""

    images: int = 0
    passes: int = 0
    marks: int = 0  # prompts, boxes and points that items bring along

    def admits(self, *, passes: int, marks: int = 0) -> bool:
        """Count one more image in, if it fits. The first one always does."""
        if self.images and (
            self.images >= MAX_SHARD_IMAGES
            or self.passes + passes > PASSES_PER_SHARD
            or self.marks + marks > MARKS_PER_SHARD
        ):
            return False
        self.images += 1
        self.passes += passes
        self.marks += marks
        return True


def passes_of(prompts: int) -> int:
    """How often an image of that many prompts goes through the network."""
    return max(1, ceil(prompts / PROMPTS_PER_PASS))


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
    poison image stands alone after two more losses. Lost three times as a slice of its own it is
    blamed: the first time it may have been in company, since slices are opened ahead.
    """
    room = min(most, shard_images - position)
    suspects = [span for span in lost if span.covers(position)]
    if not suspects:
        return NextSlice(Span(position, room))
    if sum(span == Span(position, 1) for span in suspects) >= BLAMED_LOSSES:
        return NextSlice(Span(position, 1), alone=True, blamed=True)
    smallest = min(suspects, key=lambda span: span.count)
    count = max(1, smallest.count // 8)
    return NextSlice(Span(position, min(count, room, smallest.end - position)), alone=True)


def retry_groups(positions: Sequence[int], *, lost: Sequence[Span]) -> list[tuple[int, ...]]:
    """What of a slice's failed images to run again, one group after the other.

    All at once; but where a runner died of some of them (`lost`), one by one, without those that
    were lost three times by themselves: these are blamed, and keep the failure they had.
    """
    if not any(span.covers(position) for span in lost for position in positions):
        return [tuple(positions)] if positions else []
    alone = [position for position in positions if lost.count(Span(position, 1)) < BLAMED_LOSSES]
    return [(position,) for position in alone]
