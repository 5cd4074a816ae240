"""What is evaluated, and which images are the worst."""

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings

from domain.evaluation.compared_images import Verdict, worst_compared
from domain.evaluation.documents import (
    MAX_WORST_IMAGES,
    EvaluationOptions,
    EvaluationReport,
    PromptErrors,
    WorstImage,
)
from domain.evaluation.evaluate import evaluate
from domain.exports import ExportInfo, ShownImage
from tests.unit.domain.evaluation.any_cases import cases
from tests.unit.domain.evaluation.cases import (
    Case,
    Found,
    Source,
    Wanted,
    box,
    evaluated,
    name_of,
    read,
    rle,
    source_of,
    truth_document,
    truth_of,
)

SQUARE, ELSEWHERE = box(0, 0, 10, 10), box(15, 5, 10, 10)
RIGHT = Case([Found(SQUARE, 0.9)], [Wanted(SQUARE)])
MISSED = Case([], [Wanted(SQUARE)])
FALSE = Case([Found(SQUARE, 0.9)])


def test_a_report_survives_json() -> None:
    report = evaluated([RIGHT, FALSE, MISSED], {"helmet": "hat", "star": "star"})
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


def test_a_job_without_images_has_a_report() -> None:
    report = evaluated([])
    assert (report.images.evaluated, report.worst) == (0, [])
    assert report.overall.precision.ap is None
    assert report.overall.concept.cg_f1 is None
    assert report.overall.at_thresholds.f1 is None


def test_each_image_is_noted_and_what_a_note_raises_ends_it() -> None:
    source, truth = source_of([RIGHT, FALSE, Case()], ["star"]), truth_of([], ["star"])
    noted: list[int] = []
    evaluate(source, truth, options=EvaluationOptions(), note=lambda: noted.append(1))
    assert len(noted) == 3

    def cancelled() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate(source, truth, options=EvaluationOptions(), note=cancelled)


@dataclass(frozen=True, slots=True)
class Stream:
    """An export source whose images are made when they are asked for."""

    info: ExportInfo
    count: int

    def shown(self) -> Iterator[ShownImage]:
        random = np.random.default_rng(1)
        for index in range(self.count):
            noise = [random.integers(0, 2, (200, 200), np.uint8) for _ in range(4)]
            case = Case([Found(mask, 0.9) for mask in noise], size=(200, 200))
            (image,) = source_of([case], ["star"]).images
            yield replace(image, image_index=index, image=name_of(index))


def test_masks_do_not_stay_in_memory() -> None:
    truth = truth_of([Case(size=(200, 200))] * 100, ["star"])
    stream = Stream(source_of([], ["star"]).info, 100)
    tracemalloc.start()
    report = evaluate(stream, truth, options=EvaluationOptions(), note=lambda: None)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.prompts[0].at_min_score.false_positives == 400  # of 20 kB each
    assert most < 2e6


def test_classes_that_the_truth_does_not_have_are_not_evaluated() -> None:
    source = source_of([Case([Found(SQUARE, 0.9, 0), Found(SQUARE, 0.9, 1)])], ["star", "ring"])
    truth = truth_of([Case()], ["star", "boot"])
    document = truth_document([Case(wanted=[Wanted(SQUARE, 1)])], ["star", "boot"])
    truth = read(document, source.info.classes)
    report = evaluate(source, truth, options=EvaluationOptions(), note=lambda: None)
    assert [one.class_name for one in report.classes] == ["star"]
    assert [one.text for one in report.prompts] == ["star"]
    assert report.categories.without_truth == ["ring"]
    assert report.categories.unmatched == {"boot": 1}
    assert report.overall.at_min_score.false_positives == 1


def test_prompts_are_of_the_classes_that_the_view_names() -> None:
    source = source_of([RIGHT], ["star", "ring"])
    options = source.info.options.model_copy(update={"classes": {"star": "object", "ring": None}})
    info = source.info.model_copy(update={"classes": ["object"], "options": options})
    report = evaluate(
        Source(info, source.images),
        truth_of([RIGHT], ["object"]),
        options=EvaluationOptions(),
        note=lambda: None,
    )
    assert [(one.text, one.class_name) for one in report.prompts] == [("star", "object")]
    assert report.prompts[0].at_min_score.f1 == 1


def renamed(source: Source, names: Sequence[str]) -> Source:
    images = [replace(one, image=name) for one, name in zip(source.images, names, strict=True)]
    return Source(source.info, images)


def test_an_image_that_turns_out_to_be_ambiguous_leaves_no_trace() -> None:
    images = [RIGHT, FALSE, MISSED, FALSE]
    names = ["x/00001.png", "00000.png", "00002.png", "y/00001.png"]
    truth = truth_of([Case(), MISSED, RIGHT], ["star"])
    with_two = evaluate(
        renamed(source_of(images, ["star"]), names),
        truth,
        options=EvaluationOptions(),
        note=lambda: None,
    )
    without = evaluate(
        renamed(source_of(images[1:3], ["star"]), names[1:3]),
        truth,
        options=EvaluationOptions(),
        note=lambda: None,
    )
    assert with_two.images.ambiguous.count == 2
    assert with_two.overall == without.overall
    assert with_two.prompts == without.prompts
    assert [one.image for one in with_two.worst] == ["00000.png", "00002.png"]


def test_images_with_most_errors_are_the_worst() -> None:
    images = [
        RIGHT,
        MISSED,
        Case([Found(ELSEWHERE, 0.9)], [Wanted(SQUARE)]),
        Case(),
        Case([Found(SQUARE, 0.9), Found(ELSEWHERE, 0.8), Found(box(0, 12, 5, 5), 0.85)]),
        FALSE,
    ]
    worst = evaluated(images, suggest=False).worst
    assert [(one.image, one.false_positives, one.misses) for one in worst] == [
        (name_of(4), 3, 0),
        (name_of(2), 1, 1),
        (name_of(1), 0, 1),
        (name_of(5), 1, 0),
    ]
    assert worst[1] == WorstImage(
        image_index=2,
        image=name_of(2),
        false_positives=1,
        misses=1,
        prompts=[PromptErrors(prompt_index=0, false_positives=1, misses=1)],
    )


def test_errors_are_told_by_prompt_most_errors_first() -> None:
    image = Case([Found(SQUARE, 0.9, 1), Found(ELSEWHERE, 0.9, 1)], [Wanted(SQUARE, 0)])
    (worst,) = evaluated([image], ["star", "ring"]).worst
    assert [(one.prompt_index, one.false_positives, one.misses) for one in worst.prompts] == [
        (1, 2, 0),
        (0, 0, 1),
    ]


def test_errors_are_those_at_the_suggested_thresholds() -> None:
    images = [RIGHT, RIGHT, Case([Found(SQUARE, 0.55)])]
    assert evaluated(images).worst == []
    assert [one.image for one in evaluated(images, suggest=False).worst] == [name_of(2)]


def test_a_report_has_so_many_worst_images() -> None:
    worst = evaluated([FALSE, *[MISSED] * 30]).worst
    assert [one.image for one in worst] == [name_of(n) for n in range(MAX_WORST_IMAGES)]


@settings(max_examples=50)
@given(cases())
def test_worst_images_are_drawn_with_the_errors_that_are_counted(images: list[Case]) -> None:
    source = source_of(images, ["star", "ring"])
    truth = truth_of(images, source.info.classes)
    report = evaluate(source, truth, options=EvaluationOptions(), note=lambda: None)
    drawn = {
        one.image_index: one for one in worst_compared(source, truth, report, note=lambda: None)
    }
    assert set(drawn) == {one.image_index for one in report.worst}
    for worst in report.worst:
        image = drawn[worst.image_index]
        assert verdicts(image.found).count(Verdict.WRONG) == worst.false_positives
        assert verdicts(image.truth).count(Verdict.WRONG) == worst.misses
        assert len(image.truth) == len(images[worst.image_index].wanted)


def verdicts(masks: Sequence[object]) -> list[Verdict]:
    return [one.verdict for one in masks]  # type: ignore[attr-defined]


def test_masks_are_drawn_by_what_became_of_them() -> None:
    crowd = box(10, 0, 20, 5)
    image = Case(
        [
            Found(SQUARE, 0.9),
            Found(ELSEWHERE, 0.6),
            Found(box(10, 0, 5, 5), 0.8),
            Found(SQUARE, 0.2),
        ],
        [Wanted(SQUARE), Wanted(box(0, 12, 8, 8)), Wanted(crowd, crowd=True)],
    )
    source = source_of([image], ["star"])
    truth = truth_of([image], ["star"])
    report = evaluate(source, truth, options=EvaluationOptions(suggest=False), note=lambda: None)
    (drawn,) = worst_compared(source, truth, report, note=lambda: None)
    assert verdicts(drawn.found) == [Verdict.RIGHT, Verdict.IGNORED, Verdict.WRONG]
    assert verdicts(drawn.truth) == [Verdict.RIGHT, Verdict.WRONG, Verdict.IGNORED]
    assert (drawn.image, drawn.found[2].mask) == (name_of(0), rle(ELSEWHERE))


def test_the_result_is_read_no_further_than_the_last_of_the_worst_images() -> None:
    source = source_of([RIGHT, FALSE, RIGHT, RIGHT], ["star"])
    truth = truth_of([RIGHT, Case(), RIGHT, RIGHT], ["star"])
    report = evaluate(source, truth, options=EvaluationOptions(), note=lambda: None)
    noted: list[int] = []
    list(worst_compared(source, truth, report, note=lambda: noted.append(1)))
    assert len(noted) == 2
    assert (
        list(
            worst_compared(
                source, truth, report.model_copy(update={"worst": []}), note=lambda: None
            )
        )
        == []
    )
