"""What a prompt's instances are worth from which score on, at IoU 0.5.

Instances are matched as COCO matches them, within the image and prompt: best score first, each with
the free truth of the best IoU, if that is 0.5 or more. So an instance is right or wrong whatever
the threshold: those of lower scores take nothing from it. What is matched with a crowd is neither.
"""

import numpy as np

from domain.evaluation.coco_matching import CocoMatching, Compared
from domain.evaluation.documents import (
    ScoreHistogram,
    Suggestion,
    ThresholdFigures,
    ThresholdPoint,
)
from domain.evaluation.rows import Rows

_BINS = 20
_CURVE_POINTS = 100

AT_50 = np.array([0.5])  # the IoU of all that is said about thresholds


class ScoredInstances(Rows):
    """Of one prompt: right or else wrong."""

    def __init__(self) -> None:
        super().__init__(("score", "f4"), ("right", "?"))
        self._matching = CocoMatching(AT_50)

    def add(self, image: int, compared: Compared) -> None:
        """All instances of the prompt, best score first."""
        verdicts = self._matching.verdicts(compared)
        right, wrong = verdicts.right[0], verdicts.wrong[0]
        counting = right | wrong
        scores = np.array([one.score for one in compared.found], np.float32)
        self.append(image, int(counting.sum()), score=scores[counting], right=right[counting])


def figures_at(threshold: float, *, instances: np.ndarray, positives: int) -> ThresholdFigures:
    """Of rows of `ScoredInstances`, with so much truth."""
    shown = instances["right"][instances["score"] >= np.float32(threshold)]
    right = int(shown.sum())
    return counted(right, len(shown) - right, positives - right)


def counted(true_positives: int, false_positives: int, misses: int) -> ThresholdFigures:
    """Without truth and instances there is no F1."""
    found, positives = true_positives + false_positives, true_positives + misses
    return ThresholdFigures(
        true_positives=true_positives,
        false_positives=false_positives,
        misses=misses,
        precision=true_positives / found if found else None,
        recall=true_positives / positives if positives else None,
        f1=2 * true_positives / (found + positives) if found + positives else None,
    )


def suggest(instances: np.ndarray, *, positives: int, floor: float) -> Suggestion | None:
    """The threshold with the best F1 there is, None where all are 0.

    F1 only changes at the scores found, so all of its values are looked at. Among the best ones
    the threshold is in the widest gap between two scores, and of those the highest; `floor` is the
    score from which instances are known.
    """
    scores, right, found = _steps(instances)
    f1 = 2 * right / (found + positives)
    if not len(f1) or not f1.max():
        return None
    below = np.append(scores[1:], np.float32(floor))
    gaps = np.where(f1 == f1.max(), scores - below, -1.0)
    best = int(gaps.argmax())
    threshold = _between(below[best], scores[best])
    return Suggestion(
        threshold=threshold,
        figures=figures_at(threshold, instances=instances, positives=positives),
    )


def _steps(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The scores, the highest first, and how many instances from each on are right and are all."""
    ranked = instances[np.argsort(-instances["score"], kind="stable")]
    last = np.flatnonzero(np.append(np.diff(ranked["score"]) != 0, len(ranked) > 0))
    return ranked["score"][last], np.cumsum(ranked["right"])[last], last + 1


def _between(below: np.float32, above: np.float32) -> float:
    """The middle in as few decimals, two at least, as leave it between the two; the upper one
    where nothing is between."""
    middle = (float(below) + float(above)) / 2
    for digits in range(2, 9):
        rounded = round(middle, digits)
        if below < np.float32(rounded) < above:
            return rounded
    return float(str(above))


def histogram(instances: np.ndarray) -> ScoreHistogram:
    true, false = (
        np.histogram(instances["score"][instances["right"] == right], _BINS, (0, 1))[0].tolist()
        for right in (True, False)
    )
    return ScoreHistogram(true=true, false=false)


def curve(instances: np.ndarray, *, positives: int) -> list[ThresholdPoint]:
    """At even steps of the scores if there are very many; none without truth."""
    scores, right, found = _steps(instances)
    if not (positives and len(scores)):
        return []
    steps = np.unique(np.linspace(0, len(scores) - 1, _CURVE_POINTS).round().astype(int))
    return [
        ThresholdPoint(
            threshold=float(str(scores[step])),
            precision=int(right[step]) / int(found[step]),
            recall=int(right[step]) / positives,
        )
        for step in steps
    ]
