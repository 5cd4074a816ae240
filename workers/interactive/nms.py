"""Non-maximum suppression over the masks of one image, whatever prompts they answer."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco

from workers.interactive.deadlines import NEVER, check_time
from workers.interactive.segmenter import SegmentedMask


def suppress(
    masks: Sequence[SegmentedMask], *, iou_threshold: float, deadline: float = NEVER
) -> list[SegmentedMask]:
    """The masks that overlap no better one by an IoU above `iou_threshold`, in the order given.

    Greedy, best score first, within prompts and across them; of equal scores the earlier mask,
    which is that of the earlier prompt, is the better one. Raises TimeoutError after `deadline`.
    """
    kept: list[int] = []
    candidates = _Candidates(masks)
    for position in sorted(range(len(masks)), key=lambda position: -masks[position].score):
        check_time(deadline)
        rivals = candidates.may_overlap(position, kept, iou_threshold=iou_threshold)
        if not any(iou > iou_threshold for iou in candidates.ious(position, rivals)):
            kept.append(position)
    return [masks[position] for position in sorted(kept)]


class _Candidates:
    """Exact IoUs take long for many large masks. Boxes and areas bound them, and rule out nearly
    all pairs."""

    def __init__(self, masks: Sequence[SegmentedMask]) -> None:
        self._encoded = [{"size": mask.rle.size, "counts": mask.rle.counts} for mask in masks]
        self._areas = np.array([mask.area for mask in masks], dtype=float)
        boxes = np.array([mask.box for mask in masks], dtype=float).reshape(-1, 4)
        self._starts, self._ends = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]

    def may_overlap(
        self, position: int, others: Sequence[int], *, iou_threshold: float
    ) -> list[int]:
        """Those of `others` whose IoU with the mask at `position` may be above the threshold."""
        chosen = np.array(others, dtype=int)
        sides = np.minimum(self._ends[chosen], self._ends[position]) - np.maximum(
            self._starts[chosen], self._starts[position]
        )
        shared = np.clip(sides, 0, None).prod(axis=1)
        areas, area = self._areas[chosen], self._areas[position]
        shared = np.minimum(shared, np.minimum(areas, area))
        above = shared > iou_threshold * np.maximum(areas + area - shared, 1)
        return [int(other) for other in chosen[above]]

    def ious(self, position: int, others: Sequence[int]) -> list[float]:
        if not others:
            return []
        rivals = [self._encoded[other] for other in others]
        found = coco.iou([self._encoded[position]], rivals, [False] * len(rivals))
        return [float(iou) for iou in found[0]]
