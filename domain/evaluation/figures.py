"""The figures of classes and prompts, out of what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domain.evaluation.average_precision import Curves, curves, precision_figures
from domain.evaluation.concept_f1 import ConceptCounts, concept_figures, together
from domain.evaluation.documents import (
    ClassFigures,
    EvaluationOptions,
    OverallFigures,
    PromptFigures,
    Suggestion,
    ThresholdFigures,
)
from domain.evaluation.measurements import Measurements
from domain.evaluation.pairing import Pairs
from domain.evaluation.score_thresholds import counted, curve, figures_at, histogram, suggest
from domain.evaluation.truth import Truth
from domain.evaluation.worst_images import PromptInstances
from domain.exports import ExportInfo

_TRUTH = np.dtype([("image", "i4"), ("class_id", "i4"), ("crowd", "?"), ("area", "f8")])


@dataclass(frozen=True, slots=True)
class ClassResult:
    figures: ClassFigures
    curves: Curves


@dataclass(frozen=True, slots=True)
class PromptResult:
    figures: PromptFigures
    counts: ConceptCounts
    instances: PromptInstances


class Figures:
    """Of the images in `pairs`."""

    def __init__(
        self,
        info: ExportInfo,
        truth: Truth,
        *,
        pairs: Pairs,
        measurements: Measurements,
        options: EvaluationOptions,
    ) -> None:
        self._info = info
        self._options = options
        self._measurements = measurements
        self._indexes = pairs.indexes
        self._truth = _truth_rows(truth, pairs)

    def of_class(self, class_id: int) -> ClassResult:
        of_class = self._truth[self._truth["class_id"] == class_id]
        real = of_class[~of_class["crowd"]]
        detections = self._measurements.classes[class_id].of_images(self._indexes)
        found = curves(detections, real["area"])
        figures = ClassFigures(
            class_name=self._info.classes[class_id],
            truth=len(real),
            crowds=len(of_class) - len(real),
            instances=len(detections),
            precision=precision_figures([found]),
        )
        return ClassResult(figures, found)

    def of_prompt(self, index: int, class_id: int) -> PromptResult:
        measured = self._measurements.prompts[index]
        positives = self._positives(class_id)
        truth = int(positives.sum())
        counts = ConceptCounts.of(measured.points.of_images(self._indexes), positives)
        instances = measured.instances.of_images(self._indexes)
        suggestion = self._suggestion(instances, truth) if self._options.suggest else None
        threshold = suggestion.threshold if suggestion else self._options.min_score
        figures = PromptFigures(
            prompt_index=index,
            text=self._info.prompts[index].text,
            class_name=self._info.classes[class_id],
            truth=truth,
            instances=len(instances),
            concept=concept_figures(counts),
            at_min_score=figures_at(self._options.min_score, instances=instances, positives=truth),
            suggestion=suggestion,
            threshold=threshold,
            histogram=histogram(instances),
            curve=curve(instances, positives=truth),
        )
        return PromptResult(
            figures, counts, PromptInstances(index, threshold, instances, positives)
        )

    def _positives(self, class_id: int) -> np.ndarray:
        """How much truth each image has, crowds aside."""
        real = self._truth[(self._truth["class_id"] == class_id) & ~self._truth["crowd"]]
        return np.bincount(real["image"], minlength=len(self._indexes))

    def _suggestion(self, instances: np.ndarray, truth: int) -> Suggestion | None:
        floor = self._info.options.min_score or 0.0
        return suggest(instances, positives=truth, floor=floor) if truth else None


def overall(classes: Sequence[ClassResult], prompts: Sequence[PromptResult]) -> OverallFigures:
    at_thresholds = [
        one.suggestion.figures if one.suggestion else one.at_min_score
        for one in (prompt.figures for prompt in prompts)
    ]
    return OverallFigures(
        precision=precision_figures([one.curves for one in classes]),
        concept=concept_figures(together([one.counts for one in prompts])),
        at_min_score=_together([one.figures.at_min_score for one in prompts]),
        at_thresholds=_together(at_thresholds),
    )


def _together(figures: Sequence[ThresholdFigures]) -> ThresholdFigures:
    return counted(
        sum(one.true_positives for one in figures),
        sum(one.false_positives for one in figures),
        sum(one.misses for one in figures),
    )


def _truth_rows(truth: Truth, pairs: Pairs) -> np.ndarray:
    """An annotation each; `image` counts those of `pairs`."""
    return np.array(
        [
            (number, one.class_id, one.crowd, one.area)
            for number, place in enumerate(pairs.places)
            for one in truth.images[place].instances
        ],
        _TRUTH,
    )
