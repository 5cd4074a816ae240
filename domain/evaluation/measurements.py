"""What is remembered of images that have been compared: scores and verdicts, no masks."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from domain.evaluation.average_precision import Detections
from domain.evaluation.coco_matching import (
    AREA_RANGES,
    MAX_INSTANCES,
    CocoMatching,
    Compared,
    compare,
)
from domain.evaluation.concept_f1 import DataPoints
from domain.evaluation.score_thresholds import ScoredInstances
from domain.evaluation.truth import TruthImage, TruthInstance
from domain.exports import ShownImage, ShownInstance


class PromptMeasurements:
    """Of a prompt of the job."""

    def __init__(self) -> None:
        self.points = DataPoints()
        self.instances = ScoredInstances()

    def add(self, image: int, compared: Compared, *, min_score: float) -> None:
        self.points.add(image, compared, min_score=min_score)
        self.instances.add(image, compared)


class Measurements:
    """`prompts` are the job's prompts with their class ids. What is of other classes is not
    measured, and what is of other prompts, as items have them, by class only."""

    def __init__(
        self, classes: Iterable[int], prompts: Mapping[int, int], *, min_score: float
    ) -> None:
        self.classes = {number: Detections() for number in classes}
        self.prompts = {index: PromptMeasurements() for index in prompts}
        self._of_class: dict[int, list[int]] = defaultdict(list)
        for index, class_id in prompts.items():
            self._of_class[class_id].append(index)
        self._min_score = min_score
        self._matching = CocoMatching()

    def add(self, number: int, image: ShownImage, truth: TruthImage) -> None:
        """`number` is what the image is remembered by."""
        found, wanted = _by_class(image.instances), _by_class(truth.instances)
        for class_id in self.classes:
            if class_id in found:
                compared = compare(found[class_id], wanted.get(class_id, []))
                self._add_class(number, class_id, compared)

    def _add_class(self, number: int, class_id: int, compared: Compared) -> None:
        best = compared.best(MAX_INSTANCES)
        self.classes[class_id].add(
            number,
            [one.score for one in best.found],
            [self._matching.verdicts(best, area_range=limits) for limits in AREA_RANGES],
        )
        for index in self._of_class[class_id]:
            self.prompts[index].add(number, compared.of_prompt(index), min_score=self._min_score)


_OfClass = TypeVar("_OfClass", ShownInstance, TruthInstance)


def _by_class(instances: Sequence[_OfClass]) -> Mapping[int, list[_OfClass]]:
    found: dict[int, list[_OfClass]] = {}
    for one in instances:
        found.setdefault(one.class_id, []).append(one)
    return found
