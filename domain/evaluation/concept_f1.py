"""cgF1, pmF1 and IL_MCC of Carion et al., SAM 3: Segment Anything with Concepts (2025), as
facebookresearch/sam3 computes them in sam3/eval/cgf1_eval.py.

A data point is an image and a prompt. Instances below the score threshold do not count; the others
are assigned to the truth, one to one, so that the sum of IoUs is greatest. Crowds are no truth, and
what lies in one is wrong: here the paper's code differs from COCO's.

- pmF1 is of the data points with truth, their instances taken together, at each IoU threshold:
  2 TP / (2 TP + FP + FN), then the mean of these.
- IL_MCC is the correlation of "there is truth" with "there are instances", over all data points.
- cgF1 = pmF1 * IL_MCC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.optimize import linear_sum_assignment

from domain.evaluation.coco_matching import IOU_THRESHOLDS, Compared
from domain.evaluation.documents import ConceptFigures
from domain.evaluation.rows import Rows
from domain.thresholds import reaches

# Added to denominators in the paper's code, so here: a perfect pmF1 is a little below 1.
_F1_EPSILON, _MCC_EPSILON = 1e-4, 1e-6


class DataPoints(Rows):
    """Those of one prompt that have instances: how many, and at each IoU threshold how many of
    them are right."""

    def __init__(self) -> None:
        super().__init__(("found", "i4"), ("right", "i4", (len(IOU_THRESHOLDS),)))

    def add(self, image: int, compared: Compared, *, min_score: float) -> None:
        """All instances of the prompt."""
        kept = [n for n, one in enumerate(compared.found) if reaches(one.score, min_score)]
        if kept:
            real = [n for n, one in enumerate(compared.truth) if not one.crowd]
            right = _right(compared.ious[kept][:, real])
            self.append(image, 1, found=len(kept), right=right)


def _right(ious: np.ndarray) -> np.ndarray:
    assigned = ious[linear_sum_assignment(-ious)]
    right: np.ndarray = (assigned >= IOU_THRESHOLDS[:, None]).sum(axis=1)
    return right


@dataclass(frozen=True, slots=True)
class ConceptCounts:
    """Of instances at each IoU threshold, `wrong` in data points with truth only; of data points
    by whether there is truth, and whether instances were found."""

    right: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray
    present_found: int
    present_missed: int
    absent_found: int
    absent_left: int

    @classmethod
    def of(cls, points: np.ndarray, positives: np.ndarray) -> "ConceptCounts":
        """Rows of `DataPoints`, and how much truth each image has."""
        present = positives[points["image"]] > 0
        right = points["right"].sum(axis=0)
        present_found, absent_found = int(present.sum()), int((~present).sum())
        return cls(
            right=right,
            wrong=points["found"][present].sum() - right,
            missed=positives.sum() - right,
            present_found=present_found,
            present_missed=int((positives > 0).sum()) - present_found,
            absent_found=absent_found,
            absent_left=int((positives == 0).sum()) - absent_found,
        )


def together(counts: Sequence[ConceptCounts]) -> ConceptCounts:
    nothing = np.zeros(len(IOU_THRESHOLDS), int)
    return ConceptCounts(
        right=sum((one.right for one in counts), nothing),
        wrong=sum((one.wrong for one in counts), nothing),
        missed=sum((one.missed for one in counts), nothing),
        present_found=sum(one.present_found for one in counts),
        present_missed=sum(one.present_missed for one in counts),
        absent_found=sum(one.absent_found for one in counts),
        absent_left=sum(one.absent_left for one in counts),
    )


def concept_figures(counts: ConceptCounts) -> ConceptFigures:
    """pmF1 is None without truth. IL_MCC and cgF1 are None where all or none of the data points
    have truth: there is nothing to correlate with, and the paper's code says 0."""
    f1 = _positive_f1(counts) if counts.present_found + counts.present_missed else None
    mcc = _correlation(counts)
    mean_f1, f1_50 = (None, None) if f1 is None else (float(np.mean(f1)), float(f1[0]))
    cg_f1 = None if f1 is None or mcc is None else f1 * mcc
    return ConceptFigures(
        cg_f1=None if cg_f1 is None else float(np.mean(cg_f1)),
        pm_f1=mean_f1,
        il_mcc=mcc,
        cg_f1_50=None if cg_f1 is None else float(cg_f1[0]),
        pm_f1_50=f1_50,
        present_found=counts.present_found,
        present_missed=counts.present_missed,
        absent_found=counts.absent_found,
        absent_left=counts.absent_left,
    )


def _positive_f1(counts: ConceptCounts) -> np.ndarray:
    precision = counts.right / (counts.right + counts.wrong + _F1_EPSILON)
    recall = counts.right / (counts.right + counts.missed + _F1_EPSILON)
    f1: np.ndarray = 2 * precision * recall / (precision + recall + _F1_EPSILON)
    return f1


def _correlation(counts: ConceptCounts) -> float | None:
    """Matthews' correlation coefficient."""
    hits, misses = counts.present_found, counts.present_missed
    false_alarms, rest = counts.absent_found, counts.absent_left
    if not (hits + misses and false_alarms + rest):
        return None
    product = (
        float(hits + false_alarms)
        * float(hits + misses)
        * float(rest + false_alarms)
        * float(rest + misses)
    )
    return float(hits * rest - false_alarms * misses) / (sqrt(product) + _MCC_EPSILON)
