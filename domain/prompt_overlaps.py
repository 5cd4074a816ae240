"""How far prompts find the same pixels and the same objects, summed over images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco

from domain.exports import ShownInstance

SAME_OBJECT_IOU = 0.5  # as `exclusive` of exports has it


@dataclass(frozen=True, slots=True)
class Overlap:
    """Of a prompt's pixels the share that another's masks have too, and of its instances the share
    that the other has too (mask IoU above a half)."""

    pixels: float
    instances: float


class PromptOverlaps:
    """Memory grows with the prompts, not with the images.

    Pixels are those of a prompt's masks together, so that none counts twice. Boxes and areas bound
    what two masks may share, and rule out nearly all pairs before a mask is looked at.
    """

    def __init__(self, prompts: int) -> None:
        self._pixels, self._instances = np.zeros((2, prompts), dtype=np.int64)
        self._shared, self._same = np.zeros((2, prompts, prompts), dtype=np.int64)

    def add(
        self, instances: Sequence[ShownInstance], *, step: Callable[[], None] = lambda: None
    ) -> None:
        """Those of one image that count. `step` is called for each prompt: hundreds that find the
        same things take long."""
        if not instances:
            return
        prompts = np.array([one.prompt_index for one in instances])
        bounds = _Bounds(instances)
        unions = {prompt: _union(instances, prompts == prompt) for prompt in np.unique(prompts)}
        for prompt, union in unions.items():
            step()
            self._pixels[prompt] += int(coco.area(union))
            self._instances[prompt] += np.count_nonzero(prompts == prompt)
            own, others = np.flatnonzero(prompts == prompt), np.flatnonzero(prompts > prompt)
            most = bounds.most_shared(own, others)
            for other in np.unique(prompts[others[most.any(axis=0)]]):
                self._add_shared(prompt, other, coco.merge([union, unions[other]], intersect=True))
            alike = _alike(instances, own, others, bounds.may_be_alike(own, others, most))
            for other in np.unique(prompts[others[alike.any(axis=0)]]):
                self._add_same(prompt, other, alike[:, prompts[others] == other])

    def _add_shared(self, prompt: int, other: int, both: Any) -> None:
        self._shared[[prompt, other], [other, prompt]] += int(coco.area(both))

    def _add_same(self, prompt: int, other: int, alike: np.ndarray) -> None:
        self._same[prompt, other] += np.count_nonzero(alike.any(axis=1))
        self._same[other, prompt] += np.count_nonzero(alike.any(axis=0))

    def of(self, prompt: int, other: int) -> Overlap:
        """Of `prompt` with `other`, which is not that of `other` with `prompt`."""
        return Overlap(
            float(self._shared[prompt, other] / max(self._pixels[prompt], 1)),
            float(self._same[prompt, other] / max(self._instances[prompt], 1)),
        )

    def pairs(self, *, above: float) -> Iterator[tuple[int, int]]:
        """(prompt, other) where that share of the pixels is exceeded, in their order."""
        shares = self._shared / np.maximum(self._pixels, 1)[:, None]
        yield from ((int(prompt), int(other)) for prompt, other in np.argwhere(shares > above))


class _Bounds:
    """Of the pixels that masks of one image share."""

    def __init__(self, instances: Sequence[ShownInstance]) -> None:
        boxes = np.array([one.box for one in instances]).reshape(-1, 4)
        self._starts, self._ends = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        self._areas = np.array([one.area for one in instances], dtype=float)

    def most_shared(self, own: np.ndarray, others: np.ndarray) -> np.ndarray:
        """At most so many pixels: own x others."""
        ends = np.minimum(self._ends[own][:, None], self._ends[others])
        sides = ends - np.maximum(self._starts[own][:, None], self._starts[others])
        boxes: np.ndarray = np.clip(sides, 0, None).prod(axis=2)
        areas = np.minimum(self._areas[own][:, None], self._areas[others])
        least: np.ndarray = np.minimum(boxes, areas)
        return least

    def may_be_alike(self, own: np.ndarray, others: np.ndarray, most: np.ndarray) -> np.ndarray:
        together = self._areas[own][:, None] + self._areas[others] - most
        above: np.ndarray = most > SAME_OBJECT_IOU * np.maximum(together, 1)
        return above


def _alike(
    instances: Sequence[ShownInstance], own: np.ndarray, others: np.ndarray, maybe: np.ndarray
) -> np.ndarray:
    """Where the IoU is above a half, of the pairs that may be: own x others."""
    alike = np.zeros_like(maybe)
    rows, columns = np.flatnonzero(maybe.any(axis=1)), np.flatnonzero(maybe.any(axis=0))
    if len(rows):
        ious = coco.iou(
            [_rle(instances[place]) for place in own[rows]],
            [_rle(instances[place]) for place in others[columns]],
            [False] * len(columns),
        )
        alike[np.ix_(rows, columns)] = ious > SAME_OBJECT_IOU
    return alike


def _union(instances: Sequence[ShownInstance], chosen: np.ndarray) -> Any:
    return coco.merge([_rle(instances[place]) for place in np.flatnonzero(chosen)])


def _rle(instance: ShownInstance) -> dict[str, Any]:
    return {"size": instance.mask.size, "counts": instance.mask.counts}
