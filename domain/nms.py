"""Non-maximum suppression over the masks of one image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco

from domain.annotations import Rle

Rivalry = Callable[[np.ndarray, int], np.ndarray]
"""Of the groups of some masks and the group of one: which of them compete with it. np.equal for
masks of one group, np.not_equal for those of different ones."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Masks of one image, column by column. `boxes` are the masks' (x, y, width, height), `areas`
    their pixel counts: bounds of what two may share."""

    scores: Sequence[float]
    masks: Sequence[Rle]
    boxes: Sequence[tuple[float, float, float, float]]
    areas: Sequence[int]
    groups: Sequence[int] | None = None


def survivors(
    candidates: Candidates,
    *,
    iou_threshold: float,
    rivalry: Rivalry | None = None,
    before_each: Callable[[], None] = lambda: None,
) -> list[int]:
    """Positions of the masks that overlap no better rival by an IoU above `iou_threshold`, in the
    order given.

    Greedy, best score first; of equal scores the earlier mask is the better one, and what was
    suppressed suppresses nothing. All are rivals of all where no `rivalry` says which groups are.
    `before_each` mask is called; what it raises ends the comparison.
    """
    kept: list[int] = []
    scores = candidates.scores
    bounds = _Bounds(candidates, rivalry)
    for position in sorted(range(len(scores)), key=lambda position: -scores[position]):
        before_each()
        rivals = bounds.may_overlap(position, kept, iou_threshold=iou_threshold)
        ious = _ious(candidates.masks[position], [candidates.masks[other] for other in rivals])
        if not any(iou > iou_threshold for iou in ious):
            kept.append(position)
    return sorted(kept)


class _Bounds:
    """Exact IoUs take long for many large masks. Boxes and areas bound them, and rule out nearly
    all pairs."""

    def __init__(self, candidates: Candidates, rivalry: Rivalry | None) -> None:
        self._areas = np.array(candidates.areas, dtype=float)
        boxes = np.array(candidates.boxes, dtype=float).reshape(-1, 4)
        self._starts, self._ends = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        self._groups = np.array(candidates.groups or [0] * len(boxes))
        self._rivalry = rivalry

    def may_overlap(
        self, position: int, others: Sequence[int], *, iou_threshold: float
    ) -> list[int]:
        """Those of `others` that are rivals of the mask at `position` and whose IoU with it may be
        above the threshold."""
        chosen = np.array(others, dtype=int)
        if self._rivalry is not None:
            chosen = chosen[self._rivalry(self._groups[chosen], self._groups[position])]
        sides = np.minimum(self._ends[chosen], self._ends[position]) - np.maximum(
            self._starts[chosen], self._starts[position]
        )
        shared = np.clip(sides, 0, None).prod(axis=1)
        areas, area = self._areas[chosen], self._areas[position]
        shared = np.minimum(shared, np.minimum(areas, area))
        above = shared > iou_threshold * np.maximum(areas + area - shared, 1)
        return [int(other) for other in chosen[above]]


def _ious(mask: Rle, others: Sequence[Rle]) -> list[float]:
    if not others:
        return []
    rivals = [{"size": other.size, "counts": other.counts} for other in others]
    one = {"size": mask.size, "counts": mask.counts}
    return [float(iou) for iou in coco.iou([one], rivals, [False] * len(rivals))[0]]
