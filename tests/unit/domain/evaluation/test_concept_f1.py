"""cgF1, pmF1 and IL_MCC: values worked by hand, and against a plain reading of the paper. Against
its own code: tests/reference/test_concept_f1.py."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from domain.evaluation.documents import ConceptFigures
from tests.unit.domain.evaluation.any_cases import cases, many_cases
from tests.unit.domain.evaluation.cases import Case, Found, Wanted, box, evaluated

SQUARE, ELSEWHERE = box(0, 0, 10, 10), box(15, 5, 10, 10)
PERFECT = Case([Found(SQUARE, 0.9)], [Wanted(SQUARE)])
EMPTY = Case()
NEAR = 2e-4  # what the paper's code adds to denominators takes away


class Unclear(Exception):
    """Several assignments have the greatest sum: the paper does not say which counts."""


def figures(*images: Case) -> ConceptFigures:
    return evaluated(images).overall.concept


def data_points(found: ConceptFigures) -> tuple[int, int, int, int]:
    return found.present_found, found.present_missed, found.absent_found, found.absent_left


def test_what_is_perfect_has_1() -> None:
    found = figures(PERFECT, EMPTY)
    assert (found.cg_f1, found.pm_f1, found.il_mcc) == pytest.approx((1, 1, 1), abs=NEAR)
    assert data_points(found) == (1, 0, 0, 1)


def test_denominators_are_those_of_the_papers_code() -> None:
    found = figures(PERFECT, EMPTY)
    part = 1 / 1.0001
    assert found.pm_f1 == pytest.approx(2 * part * part / (2 * part + 1e-4), abs=1e-12)
    assert found.il_mcc == pytest.approx(1 / (1 + 1e-6), abs=1e-12)


def test_without_any_truth_nothing_can_be_said() -> None:
    found = figures(Case([Found(SQUARE, 0.9)]), EMPTY)
    assert (found.cg_f1, found.pm_f1, found.il_mcc) == (None, None, None)
    assert (found.cg_f1_50, found.pm_f1_50) == (None, None)
    assert data_points(found) == (0, 0, 1, 1)


def test_where_all_images_have_truth_presence_cannot_be_measured() -> None:
    found = figures(PERFECT, PERFECT)
    assert found.pm_f1 == pytest.approx(1, abs=NEAR)
    assert (found.cg_f1, found.il_mcc) == (None, None)


def test_without_any_instance_all_is_0() -> None:
    found = figures(Case(wanted=[Wanted(SQUARE)]), EMPTY)
    assert (found.cg_f1, found.pm_f1, found.il_mcc) == (0, 0, 0)
    assert data_points(found) == (0, 1, 0, 1)


def test_what_is_always_wrong_has_an_il_mcc_of_minus_1() -> None:
    found = figures(Case(wanted=[Wanted(SQUARE)]), Case([Found(SQUARE, 0.9)]))
    assert found.pm_f1 == 0
    assert found.il_mcc == pytest.approx(-1, abs=NEAR)


def test_pm_f1_does_not_see_images_without_truth() -> None:
    found = figures(PERFECT, Case([Found(SQUARE, 0.9)] * 5), EMPTY)
    assert found.pm_f1 == pytest.approx(1, abs=NEAR)
    # 1 hit, 1 false alarm, 1 rest: (1 * 1 - 1 * 0) / sqrt(2 * 1 * 2 * 1)
    assert found.il_mcc == pytest.approx(1 / 2, abs=NEAR)
    assert found.cg_f1 == pytest.approx(1 / 2, abs=NEAR)


def test_pm_f1_is_of_all_instances_together_and_a_mean_over_iou_thresholds() -> None:
    shifted = box(2, 0, 10, 10)  # IoU 80 / 120: right at 0.50, 0.55, 0.60 and 0.65
    images = [
        Case([Found(shifted, 0.9), Found(ELSEWHERE, 0.8)], [Wanted(SQUARE)]),
        Case([], [Wanted(SQUARE), Wanted(ELSEWHERE)]),
        EMPTY,
    ]
    found = figures(*images)
    at_50 = 2 * 1 / (2 * 1 + 1 + 2)  # 1 right, 1 wrong, 2 missed
    assert found.pm_f1_50 == pytest.approx(at_50, abs=NEAR)
    assert found.pm_f1 == pytest.approx(at_50 * 4 / 10, abs=NEAR)


def test_only_scores_from_the_threshold_on_count() -> None:
    images = [Case([Found(SQUARE, 0.6), Found(ELSEWHERE, 0.59)], [Wanted(SQUARE)]), EMPTY]
    at_60 = evaluated(images, min_score=0.6).overall.concept
    assert at_60.pm_f1 == pytest.approx(1, abs=NEAR)
    at_61 = evaluated(images, min_score=0.61).overall.concept
    assert data_points(at_61) == (0, 1, 0, 1)


def test_masks_are_assigned_for_the_greatest_sum_of_ious() -> None:
    """The better instance could take either truth, the worse one only the first."""
    first, second = box(0, 0, 10, 10), box(6, 0, 10, 10)
    between, left = box(3, 0, 10, 10), box(0, 0, 10, 6)
    found = figures(
        Case([Found(between, 0.9), Found(left, 0.8)], [Wanted(first), Wanted(second)]), EMPTY
    )
    assert found.pm_f1_50 == pytest.approx(1, abs=NEAR)


def test_a_crowd_is_no_truth_and_what_lies_in_it_is_wrong() -> None:
    crowd = Wanted(ELSEWHERE, crowd=True)
    found = figures(
        Case([Found(SQUARE, 0.9), Found(box(16, 6, 4, 4), 0.9)], [Wanted(SQUARE), crowd]),
        Case([Found(ELSEWHERE, 0.9)], [crowd]),
        EMPTY,
    )
    assert found.pm_f1 == pytest.approx(2 / 3, abs=NEAR)
    assert data_points(found) == (1, 0, 1, 1)


def test_prompts_are_measured_apart_and_pooled_for_all() -> None:
    images = [Case([Found(SQUARE, 0.9, 0)], [Wanted(SQUARE, 0)]), Case(wanted=[Wanted(SQUARE, 1)])]
    report = evaluated(images, ["star", "ring"])
    star, ring = (prompt.concept for prompt in report.prompts)
    assert data_points(star) == (1, 0, 0, 1)
    assert data_points(ring) == (0, 1, 0, 1)
    assert data_points(report.overall.concept) == (1, 1, 0, 2)
    assert report.overall.concept.pm_f1 == pytest.approx(2 / 3, abs=NEAR)


@given(cases(), st.sampled_from([0.1, 0.5, 0.7]))
def test_figures_are_those_of_a_plain_reading(images: list[Case], min_score: float) -> None:
    try:
        assert_plain(images, prompts=2, min_score=min_score)
    except Unclear:
        reject()


def test_figures_of_100_images_are_those_of_a_plain_reading() -> None:
    assert_plain(many_cases(100, prompts=3, seed=7), prompts=3, min_score=0.5)


def assert_plain(images: Sequence[Case], *, prompts: int, min_score: float) -> None:
    names = [f"class {number}" for number in range(prompts)]
    report = evaluated(images, names, min_score=min_score)
    for found, asked in [
        *((one.concept, [one.prompt_index]) for one in report.prompts),
        (report.overall.concept, list(range(prompts))),
    ]:
        plain = plain_figures(images, asked, min_score)
        assert [found.pm_f1, found.il_mcc, found.cg_f1] == pytest.approx(
            plain, abs=NEAR, nan_ok=True
        )


def plain_figures(
    images: Sequence[Case], prompts: Sequence[int], min_score: float
) -> tuple[float | None, float | None, float | None]:
    """Straight from the paper's text, by trying all assignments."""
    points = [
        (
            [one.mask for one in image.found if one.prompt == p and one.score >= min_score],
            [one.mask for one in image.wanted if one.class_id == p and not one.crowd],
        )
        for image in images
        for p in prompts
    ]
    positive = [(found, wanted) for found, wanted in points if wanted]
    matched = np.array([iou for point in positive for iou in best_assignment(*point)])
    f1 = (
        [
            2 * np.sum(matched >= limit - 1e-12) / sum(len(f) + len(w) for f, w in positive)
            for limit in np.arange(50, 100, 5) / 100
        ]
        if positive
        else None
    )
    truth = np.array([bool(wanted) for _, wanted in points])
    found = np.array([bool(found) for found, _ in points])
    pm_f1 = None if f1 is None else float(np.mean(f1))
    mcc = None if truth.all() or not truth.any() else correlation(truth, found)
    return pm_f1, mcc, None if pm_f1 is None or mcc is None else pm_f1 * mcc


def correlation(truth: np.ndarray, found: np.ndarray) -> float:
    return 0.0 if found.all() or not found.any() else float(np.corrcoef(truth, found)[0, 1])


def best_assignment(found: list[np.ndarray], wanted: list[np.ndarray]) -> list[float]:
    """The IoUs of the assignment with the greatest sum."""
    few, many = sorted((found, wanted), key=len)
    ious = [[iou(one, other) for other in many] for one in few]
    tried = [
        sorted(ious[n][m] for n, m in enumerate(order))
        for order in permutations(range(len(many)), len(few))
    ]
    greatest = max(map(sum, tried))
    best = [one for one in tried if sum(one) > greatest - 1e-9]
    if not np.allclose(best, best[0]):
        raise Unclear
    return best[0]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0
