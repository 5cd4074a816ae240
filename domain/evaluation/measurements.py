"""What is remembered of images that have been compared: scores and verdicts, no masks."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from domain.evaluation.average_precision import Detections
from domain.evaluation.coco_matching import (
    MAX_INSTANCES,
    CocoMatching,
    Compared,
    best,
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
        self.classes = {class_id: Detections() for class_id in classes}
        self.prompts = {index: PromptMeasurements() for index in prompts}
        self._class_ids = prompts
        self._min_score = min_score
        self._matching = CocoMatching()

    def add(self, image: ShownImage, truth: TruthImage, *, note: Callable[[], None]) -> None:
        """Many masks take seconds to compare: `note` is called for each class and prompt."""
        wanted = _groups(truth.instances, lambda one: one.class_id)
        for class_id, found in _groups(image.instances, lambda one: one.class_id).items():
            if class_id in self.classes:
                note()
                compared = compare(best(found, MAX_INSTANCES), wanted.get(class_id, []))
                self.classes[class_id].add(image.image_index, compared, self._matching)
        for index, found in _groups(image.instances, lambda one: one.prompt_index).items():
            if index in self.prompts:
                note()
                compared = compare(best(found), wanted.get(self._class_ids[index], []))
                self.prompts[index].add(image.image_index, compared, min_score=self._min_score)


_One = TypeVar("_One", ShownInstance, TruthInstance)


def _groups(instances: Iterable[_One], key: Callable[[_One], int]) -> dict[int, list[_One]]:
    groups: dict[int, list[_One]] = {}
    for one in instances:
        groups.setdefault(key(one), []).append(one)
    return groups
