"""How long all images will take, from the few that were labelled first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

_BURST = 0.3  # of the time that its images take on average: it was done with the one before
_STALL = 0.5  # so much longer than most: a stall, which counts as no more than this,
_STALL_DEVIATIONS = 4.0  # unless they differ a lot among themselves
# Student's t, two-sided 90 %, by degrees of freedom; above the last one it hardly changes
_STUDENT = {2: 2.92, 3: 2.35, 4: 2.13, 5: 2.02, 6: 1.94, 7: 1.89, 8: 1.86, 9: 1.83}


@dataclass(frozen=True, slots=True)
class SampledSlice:
    """A committed slice; times in seconds on any one clock."""

    images: int
    runner: str
    opened: float  # when its first image began its way
    committed: float


class Estimate(BaseModel):
    """Of one worker like those of the sample. Bounds hold 90 % of what the sample's own spread
    makes likely; null where there are too few slices to say."""

    model_config = ConfigDict(frozen=True)

    images_total: int
    measured_images: int = Field(description="Of the sample, that were timed")
    steady: bool = Field(description="False: starting up is in it, and the run will be faster")
    seconds_per_image: float
    seconds_per_image_low: float | None
    seconds_per_image_high: float | None
    workers: int
    seconds: float = Field(description="Until all images are done by that many workers")
    gpu_hours: float = Field(description="Of all workers together")


def estimate(
    slices: Sequence[SampledSlice], *, images_total: int, workers: int = 1
) -> Estimate | None:
    """None without a slice.

    A runner's commits, one after the other, say what its images take once everything is under
    way, so its first commit is only the start of the clock. Pipelines commit in bursts (a batch
    ends several slices at once), so slices of a burst are taken together, the first burst too. A
    sum is made of means, so all slices count by their images; but what took far longer than all
    others of its run counts as only somewhat longer.

    What it cannot see: images that were loaded while the first batch kept the network. Where
    loading is the bottleneck and the first batch took long, the estimate is too low.
    """
    if not slices:
        return None
    runs = list(_runs(slices))
    steady = [step for run in runs for step in _without_stalls(list(_steps(run)))]
    steps = steady or [_Step(sum(s.images for s in run), _elapsed(run)) for run in runs]
    per_image, spread = _mean(steps)
    return Estimate(
        images_total=images_total,
        measured_images=sum(step.images for step in steps),
        steady=bool(steady),
        seconds_per_image=per_image,
        seconds_per_image_low=None if spread is None else max(0.0, per_image - spread),
        seconds_per_image_high=None if spread is None else per_image + spread,
        workers=workers,
        seconds=images_total * per_image / workers,
        gpu_hours=images_total * per_image / 3600,
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """Images that took these seconds."""

    images: int
    seconds: float


def _runs(slices: Sequence[SampledSlice]) -> Iterator[list[SampledSlice]]:
    """A runner's slices while it worked without a break: what is opened after the one before is
    committed begins anew, perhaps after another job's shard."""
    ordered = sorted(slices, key=lambda one: (one.runner, one.committed))
    for _, of_runner in groupby(ordered, key=lambda one: one.runner):
        run: list[SampledSlice] = []
        for one in of_runner:
            if run and one.opened > run[-1].committed:
                yield run
                run = []
            run.append(one)
        yield run


def _steps(run: Sequence[SampledSlice]) -> Iterator[_Step]:
    """From burst to burst of commits, the first of which starts the clock."""
    pace = (run[-1].committed - run[0].committed) / max(1, sum(one.images for one in run[1:]))
    clock: float | None = None
    images = 0
    for one, following in zip(run, [*run[1:], None], strict=True):
        images += one.images
        if (
            following is None
            or following.committed - one.committed > _BURST * pace * following.images
        ):
            if clock is not None:
                yield _Step(images, one.committed - clock)
            clock, images = one.committed, 0


def _elapsed(run: Sequence[SampledSlice]) -> float:
    return run[-1].committed - min(one.opened for one in run)


def _mean(steps: Sequence[_Step]) -> tuple[float, float | None]:
    """Seconds per image, and how far off that may be: of a ratio of sums (Cochran, Sampling
    Techniques, 1977, section 6.3)."""
    images = np.array([step.images for step in steps], dtype=float)
    seconds = np.array([step.seconds for step in steps])
    mean = seconds.sum() / images.sum()
    if len(steps) < 3:
        return float(mean), None
    count = len(steps)
    variance = ((seconds - mean * images) ** 2).sum() * count / (count - 1)
    student = _STUDENT.get(count - 1, _STUDENT[max(_STUDENT)])
    return float(mean), float(student * sqrt(variance) / images.sum())


def _without_stalls(steps: Sequence[_Step]) -> list[_Step]:
    if not steps:
        return []
    images = np.array([step.images for step in steps], dtype=float)
    paces = np.array([step.seconds for step in steps]) / images
    middle = _weighted_median(paces, images)
    deviation = _weighted_median(np.abs(paces - middle), images)
    most = middle + max(_STALL * middle, _STALL_DEVIATIONS * deviation)
    return [_Step(step.images, min(step.seconds, most * step.images)) for step in steps]


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])
