"""Which instances of an image are right, as COCO has it.

The matching itself is pycocotools', one image and class at a time: it keeps a whole data set's
masks in memory otherwise, and prints.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco
from pycocotools.cocoeval import COCOeval

from domain.annotations import Rle
from domain.evaluation.truth import TruthInstance
from domain.exports import ShownInstance

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO's, equal to the bit
AREA_RANGES = (
    (0, 1e5**2),
    (0, 32**2),
    (32**2, 96**2),
    (96**2, 1e5**2),
)  # all, small, medium, large
MAX_INSTANCES = 100

_KEY = (0, 0)


@dataclass(frozen=True, slots=True)
class Compared:
    """The instances of one image and class beside the truth's, and their IoUs, D x G: with a crowd,
    the share of the instance that lies in it."""

    found: Sequence[ShownInstance]
    truth: Sequence[TruthInstance]
    ious: np.ndarray


def best(found: Sequence[ShownInstance], count: int | None = None) -> list[ShownInstance]:
    """Best score first; of equal scores the earlier ones."""
    return sorted(found, key=lambda one: -one.score)[:count]


def compare(found: Sequence[ShownInstance], truth: Sequence[TruthInstance]) -> Compared:
    if not (found and truth):
        return Compared(found, truth, np.zeros((len(found), len(truth))))
    ious = coco.iou(
        [_coco(one.mask) for one in found],
        [_coco(one.mask) for one in truth],
        [one.crowd for one in truth],
    )
    return Compared(found, truth, ious)


def _coco(mask: Rle) -> dict[str, object]:
    return {"size": mask.size, "counts": mask.counts}


@dataclass(frozen=True, slots=True)
class Verdicts:
    """For IoU thresholds x instances: right, and wrong. Neither is what COCO ignores: in a crowd,
    or out of the range of areas. `seen` is for IoU thresholds x truth: what some instance took."""

    right: np.ndarray
    wrong: np.ndarray
    seen: np.ndarray


class CocoMatching:
    """In the order of their scores, instances take the truth of the best IoU that is free."""

    def __init__(self, iou_thresholds: np.ndarray = IOU_THRESHOLDS) -> None:
        self._coco = COCOeval(iouType="segm")
        self._coco.params.iouThrs = iou_thresholds

    def verdicts(
        self, compared: Compared, *, area_range: tuple[float, float] = AREA_RANGES[0]
    ) -> Verdicts:
        """`compared` has the best score first."""
        found, truth = compared.found, compared.truth
        if not found:
            rows = len(self._coco.params.iouThrs)
            return Verdicts(*(np.zeros((rows, n), bool) for n in (0, 0, len(truth))))
        self._coco._gts[_KEY] = [
            {"id": number, "area": one.area, "iscrowd": one.crowd, "ignore": one.crowd}
            for number, one in enumerate(truth, start=1)
        ]
        self._coco._dts[_KEY] = [
            {"id": number, "area": one.area, "score": one.score}
            for number, one in enumerate(found, start=1)
        ]
        self._coco.ious[_KEY] = compared.ious
        result = self._coco.evaluateImg(*_KEY, area_range, len(found))
        matched, ignored = result["dtMatches"] > 0, result["dtIgnore"]
        seen = np.zeros((len(matched), len(truth)), bool)
        seen[:, np.array(result["gtIds"], int) - 1] = result["gtMatches"] > 0
        return Verdicts(matched & ~ignored, ~matched & ~ignored, seen)
