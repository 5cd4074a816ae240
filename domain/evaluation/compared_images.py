"""Images beside their truth, instance by instance: for pictures of what is wrong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from domain.annotations import Rle
from domain.evaluation.coco_matching import CocoMatching, best, compare
from domain.evaluation.documents import EvaluationReport
from domain.evaluation.evaluate import prompt_classes
from domain.evaluation.image_names import ImageNames
from domain.evaluation.score_thresholds import AT_50
from domain.evaluation.truth import Truth, TruthInstance
from domain.exports import ExportSource, ShownImage, ShownInstance
from domain.thresholds import reaches


class Verdict(StrEnum):
    RIGHT = "right"  # of the truth: found
    WRONG = "wrong"  # of the truth: missed, by one of the class's prompts at least
    IGNORED = "ignored"  # a crowd, and what lies in it


@dataclass(frozen=True, slots=True)
class JudgedMask:
    mask: Rle
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """The instances that the prompts show at their thresholds, and the truth of their classes."""

    image_index: int
    image: str
    truth: tuple[JudgedMask, ...]
    found: tuple[JudgedMask, ...]


def worst_compared(
    source: ExportSource, truth: Truth, report: EvaluationReport, *, note: Callable[[], None]
) -> Iterator[ComparedImage]:
    """The report's worst images, in the job's order. Reads the result once more, up to the last of
    them; `note` is called for each image."""
    wanted = {one.image_index for one in report.worst}
    comparing = _Comparing(source, truth, report)
    images = source.shown() if wanted else iter(())
    for image in images:
        note()
        if image.image_index in wanted:
            yield comparing.compared(image)
            wanted.remove(image.image_index)
            if not wanted:
                return


class _Comparing:
    def __init__(self, source: ExportSource, truth: Truth, report: EvaluationReport) -> None:
        self._truth = truth.images
        self._names = ImageNames([image.name for image in truth.images])
        self._classes = prompt_classes(source.info, truth)
        self._thresholds = {one.prompt_index: one.threshold for one in report.prompts}
        self._matching = CocoMatching(AT_50)

    def compared(self, image: ShownImage) -> ComparedImage:
        """One that was evaluated: its name fits one of the truth's."""
        fit = self._names.fit(image.image)
        assert fit is not None
        truth = self._truth[fit.place].instances
        found: list[JudgedMask] = []
        missed: set[int] = set()
        for index, class_id in self._classes.items():
            places = [place for place, one in enumerate(truth) if one.class_id == class_id]
            shown = self._shown(image, index)
            verdicts = self._matching.verdicts(compare(shown, [truth[place] for place in places]))
            flags = zip(shown, verdicts.right[0], verdicts.wrong[0], strict=True)
            found += (JudgedMask(one.mask, _verdict(right, wrong)) for one, right, wrong in flags)
            seen = zip(places, verdicts.seen[0], strict=True)
            missed.update(place for place, is_seen in seen if not is_seen)
        classes = set(self._classes.values())
        judged = (
            JudgedMask(one.mask, _truth_verdict(one, is_missed=place in missed))
            for place, one in enumerate(truth)
            if one.class_id in classes
        )
        return ComparedImage(image.image_index, image.image, tuple(judged), tuple(found))

    def _shown(self, image: ShownImage, prompt_index: int) -> list[ShownInstance]:
        threshold = self._thresholds[prompt_index]
        return best(
            [
                one
                for one in image.instances
                if one.prompt_index == prompt_index and reaches(one.score, threshold)
            ]
        )


def _verdict(right: bool, wrong: bool) -> Verdict:
    return Verdict.RIGHT if right else Verdict.WRONG if wrong else Verdict.IGNORED


def _truth_verdict(one: TruthInstance, *, is_missed: bool) -> Verdict:
    if one.crowd:
        return Verdict.IGNORED
    return Verdict.WRONG if is_missed else Verdict.RIGHT
