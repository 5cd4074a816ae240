"""COCO's AP and AR out of verdicts on instances: COCOeval.accumulate and .summarize of
cocodataset/cocoapi, equal to the bit, without an object for every image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domain.evaluation.coco_matching import AREA_RANGES, IOU_THRESHOLDS, CocoMatching, Compared
from domain.evaluation.documents import PrecisionFigures
from domain.evaluation.rows import Rows

_RECALLS = np.linspace(0.0, 1.0, 101)
_BITS = np.arange(len(IOU_THRESHOLDS))
_NOTHING = -1.0  # COCO's mark for what cannot be had


class Detections(Rows):
    """Of one class. `right` and `wrong` hold for each range of areas a bit for each IoU."""

    def __init__(self) -> None:
        ranges = (len(AREA_RANGES),)
        super().__init__(("score", "f8"), ("right", "u2", ranges), ("wrong", "u2", ranges))

    def add(self, image: int, compared: Compared, matching: CocoMatching) -> None:
        """The best instances of the class, best score first."""
        verdicts = [matching.verdicts(compared, area_range=limits) for limits in AREA_RANGES]
        self.append(
            image,
            len(compared.found),
            score=[one.score for one in compared.found],
            right=np.stack([_packed(one.right) for one in verdicts], axis=1),
            wrong=np.stack([_packed(one.wrong) for one in verdicts], axis=1),
        )


def _packed(flags: np.ndarray) -> np.ndarray:
    packed: np.ndarray = (flags.T << _BITS).sum(axis=1)
    return packed


def _unpacked(packed: np.ndarray) -> np.ndarray:
    flags: np.ndarray = packed >> _BITS[:, None] & 1
    return flags


@dataclass(frozen=True, slots=True)
class Curves:
    """Of one class: `precision` is IoU x recall x range of areas, `recall` IoU x range; -1 where
    there is no truth."""

    precision: np.ndarray
    recall: np.ndarray


def curves(detections: np.ndarray, truth_areas: np.ndarray) -> Curves:
    """Of rows of `Detections`, in the order of images, and the areas of the truth, no crowds."""
    precision = np.full((len(IOU_THRESHOLDS), len(_RECALLS), len(AREA_RANGES)), _NOTHING)
    recall = np.full((len(IOU_THRESHOLDS), len(AREA_RANGES)), _NOTHING)
    ranked = detections[np.argsort(-detections["score"], kind="stable")]
    for number, (smallest, largest) in enumerate(AREA_RANGES):
        positives = int(((truth_areas >= smallest) & (truth_areas <= largest)).sum())
        if positives:
            right, wrong = (_unpacked(ranked[name][:, number]) for name in ("right", "wrong"))
            for place, flags in enumerate(zip(right, wrong, strict=True)):
                precision[place, :, number], recall[place, number] = _curve(*flags, positives)
    return Curves(precision, recall)


def _curve(right: np.ndarray, wrong: np.ndarray, positives: int) -> tuple[np.ndarray, float]:
    """Precision at each of the recalls, and the recall of all. At a recall it is the best one of
    that recall or a higher one, 0 where that is never reached."""
    rights, wrongs = np.cumsum(right, dtype=float), np.cumsum(wrong, dtype=float)
    recalls = rights / positives
    precisions = rights / (wrongs + rights + np.spacing(1))
    best = np.maximum.accumulate(precisions[::-1])[::-1]
    reached = np.searchsorted(recalls, _RECALLS, side="left")
    return np.append(best, 0.0)[reached], recalls[-1] if len(recalls) else 0.0


def precision_figures(of_classes: Sequence[Curves]) -> PrecisionFigures:
    """Means over the classes with truth."""
    if not of_classes:
        return PrecisionFigures(**dict.fromkeys(PrecisionFigures.model_fields))
    precision = np.stack([one.precision for one in of_classes], axis=2)
    recall = np.stack([one.recall for one in of_classes], axis=1)
    at_50, at_75 = np.searchsorted(IOU_THRESHOLDS, (0.5, 0.75)).tolist()
    return PrecisionFigures(
        ap=_mean(precision[..., 0]),
        ap50=_mean(precision[at_50, ..., 0]),
        ap75=_mean(precision[at_75, ..., 0]),
        ap_small=_mean(precision[..., 1]),
        ap_medium=_mean(precision[..., 2]),
        ap_large=_mean(precision[..., 3]),
        ar100=_mean(recall[..., 0]),
        ar_small=_mean(recall[..., 1]),
        ar_medium=_mean(recall[..., 2]),
        ar_large=_mean(recall[..., 3]),
    )


def _mean(values: np.ndarray) -> float | None:
    known = values[values != _NOTHING]
    return float(np.mean(known)) if len(known) else None
