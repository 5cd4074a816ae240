"""AP and AR against pycocotools' own evaluation of the same masks."""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from domain.evaluation.documents import EvaluationOptions, PrecisionFigures
from domain.evaluation.evaluate import evaluate
from tests.unit.domain.evaluation.any_cases import cases, many_cases
from tests.unit.domain.evaluation.cases import (
    Case,
    Found,
    Source,
    Wanted,
    box,
    evaluated,
    read,
    source_of,
    truth_document,
)
from tests.unit.domain.evaluation.labelled_scenes import labelled_scenes

STATS = {  # of COCOeval.stats
    "ap": 0,
    "ap50": 1,
    "ap75": 2,
    "ap_small": 3,
    "ap_medium": 4,
    "ap_large": 5,
    "ar100": 8,
    "ar_small": 9,
    "ar_medium": 10,
    "ar_large": 11,
}


def in_pycocotools(document: Mapping[str, Any], source: Source) -> dict[str, float | None]:
    """None where COCOeval says -1."""
    results = [
        {
            "image_id": image.image_index + 1,
            "category_id": one.class_id + 1,
            "segmentation": {"size": list(one.mask.size), "counts": one.mask.counts},
            "score": one.score,
        }
        for image in source.images
        for one in image.instances
    ]
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = document
        truth.createIndex()
        found = truth.loadRes(results) if results else COCO()
        evaluation = COCOeval(truth, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = {name: float(evaluation.stats[place]) for name, place in STATS.items()}
    return {name: None if value == -1 else value for name, value in stats.items()}


def ours(document: Mapping[str, Any], source: Source) -> PrecisionFigures:
    truth = read(document, source.info.classes)
    report = evaluate(source, truth, options=EvaluationOptions(), note=lambda: None)
    return report.overall.precision


def assert_equal_to_pycocotools(images: Sequence[Case], prompts: Mapping[str, str]) -> None:
    source = source_of(images, prompts)
    document = truth_document(images, source.info.classes)
    assert ours(document, source).model_dump() == in_pycocotools(document, source)


@settings(max_examples=100)
@given(cases(prompts=3))
def test_all_figures_are_those_of_pycocotools(images: list[Case]) -> None:
    assert_equal_to_pycocotools(images, {"star": "star", "decoration": "star", "ring": "ring"})


@pytest.mark.parametrize("seed", range(3))
def test_all_figures_are_those_of_pycocotools_for_all_sizes(seed: int) -> None:
    images = many_cases(60, prompts=3, seed=seed)
    source = source_of(images, ["a", "b", "c"])
    document = truth_document(images, source.info.classes)
    figures = ours(document, source).model_dump()
    assert figures == in_pycocotools(document, source)
    assert all(0 < value < 1 for value in figures.values())


def test_all_figures_of_the_demo_network_are_those_of_pycocotools() -> None:
    images = labelled_scenes(6)
    source = source_of(images, ["circle", "star"])
    document = truth_document(images, source.info.classes)
    figures = ours(document, source)
    assert figures.model_dump() == in_pycocotools(document, source)
    assert figures.ap50 is not None
    assert figures.ap50 > 0.7


@settings(max_examples=50)
@given(cases(), st.data())
def test_areas_are_those_that_the_truth_states(images: list[Case], data: st.DataObject) -> None:
    source = source_of(images, ["star", "ring"])
    document = truth_document(images, source.info.classes)
    for annotation in document["annotations"]:
        annotation["area"] = data.draw(st.sampled_from([0, 1023.5, 1024, 5000, 9216, 1e5]))
    assert ours(document, source).model_dump() == in_pycocotools(document, source)


def test_only_the_best_100_of_a_class_in_an_image_count() -> None:
    wanted = [Wanted(box(x, y, 1, 1)) for x in range(12) for y in range(10)]
    images = [Case([Found(one.mask, 0.5 + n / 300) for n, one in enumerate(wanted)], wanted)]
    assert_equal_to_pycocotools(images, {"star": "star"})
    assert evaluated(images).overall.precision.ar100 == pytest.approx(100 / 120)


def test_prompts_of_one_class_are_evaluated_together() -> None:
    left, right = box(0, 0, 10, 10), box(15, 0, 10, 10)
    images = [Case([Found(left, 0.9, 0), Found(right, 0.8, 1)], [Wanted(left), Wanted(right)])]
    report = evaluated(images, {"helmet": "hat", "hard hat": "hat"})
    (hat,) = report.classes
    assert hat.precision.ap == pytest.approx(1)
    assert [prompt.at_min_score.recall for prompt in report.prompts] == [0.5, 0.5]


def test_an_items_own_prompt_counts_for_its_class_alone() -> None:
    mask = box(0, 0, 10, 10)
    report = evaluated([Case([Found(mask, 0.9, prompt=1)], [Wanted(mask)])], ["star"])
    assert report.overall.precision.ap == pytest.approx(1)
    assert [prompt.instances for prompt in report.prompts] == [0]


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong() -> None:
    single, crowd = box(0, 0, 8, 8), box(10, 0, 20, 20)
    inside = [Found(box(10 + x, 0, 4, 4), 0.95) for x in (0, 5)]
    images = [Case([Found(single, 0.9), *inside], [Wanted(single), Wanted(crowd, crowd=True)])]
    report = evaluated(images)
    assert report.overall.precision.ap == pytest.approx(1)
    assert (report.classes[0].truth, report.classes[0].crowds) == (1, 1)
    assert report.prompts[0].at_min_score.precision == 1


def test_without_truth_there_is_no_figure() -> None:
    figures = evaluated([Case([Found(box(0, 0, 5, 5), 0.9)])]).overall.precision
    assert set(figures.model_dump().values()) == {None}


def test_without_instances_all_is_zero() -> None:
    figures = evaluated([Case(wanted=[Wanted(box(0, 0, 5, 5))])]).overall.precision
    assert (figures.ap, figures.ap50, figures.ar100, figures.ap_small) == (0, 0, 0, 0)
    assert figures.ap_large is None


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(many_cases(3, prompts=1, seed=1))
    assert capsys.readouterr() == ("", "")
