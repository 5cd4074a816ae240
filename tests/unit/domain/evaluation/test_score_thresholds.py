from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.evaluation.documents import PromptFigures, ThresholdFigures
from domain.evaluation.score_thresholds import ScoredInstances, curve, figures_at, suggest
from tests.unit.domain.evaluation.any_cases import cases
from tests.unit.domain.evaluation.cases import FLOOR, Case, Found, Wanted, box, evaluated

SQUARE, ELSEWHERE = box(0, 0, 10, 10), box(15, 5, 10, 10)

scores = st.one_of(
    st.sampled_from([0.1, 0.3, 0.5, 0.7]), st.floats(float(np.float32(FLOOR)), 1, width=32)
)
scored = st.lists(st.tuples(scores, st.booleans()), max_size=12)


def rows(instances: Sequence[tuple[float, bool]]) -> np.ndarray:
    found = ScoredInstances()
    columns = [list(column) for column in zip(*instances, strict=True)] or [[], []]
    found.append(0, len(instances), score=columns[0], right=columns[1])
    return found.of_images(np.array([0]))


def f1_at(threshold: float, instances: Sequence[tuple[float, bool]], positives: int) -> float:
    shown = [right for score, right in instances if np.float32(score) >= np.float32(threshold)]
    return 2 * sum(shown) / (len(shown) + positives)


@given(scored, st.integers(0, 5))
def test_no_threshold_has_a_better_f1_than_the_suggested_one(
    instances: list[tuple[float, bool]], missed: int
) -> None:
    positives = sum(right for _, right in instances) + missed
    suggestion = suggest(rows(instances), positives=positives, floor=FLOOR)
    thresholds = [0.5, FLOOR, *(score for score, _ in instances)]
    best = max((f1_at(t, instances, positives) for t in thresholds if positives), default=0)
    if suggestion is None:
        assert best == 0
    else:
        assert f1_at(suggestion.threshold, instances, positives) == suggestion.figures.f1 == best


@given(scored, st.integers(0, 5))
def test_of_the_best_thresholds_it_is_in_the_widest_gap(
    instances: list[tuple[float, bool]], missed: int
) -> None:
    positives = sum(right for _, right in instances) + missed
    suggestion = suggest(rows(instances), positives=positives, floor=FLOOR)
    if suggestion is None:
        return
    steps = sorted({np.float32(score) for score, _ in instances} | {np.float32(FLOOR)})
    gaps = {
        float(above - below): (below, above)
        for below, above in pairwise(steps)
        if f1_at(float(above), instances, positives) == suggestion.figures.f1
    }
    if gaps:
        below, above = gaps[max(gaps)]
        assert below < np.float32(suggestion.threshold) <= above
    else:
        assert np.float32(suggestion.threshold) == np.float32(FLOOR)


@settings(max_examples=40)
@given(cases(prompts=2, classes=2))
def test_figures_at_a_threshold_are_those_of_the_instances_from_it_on(images: list[Case]) -> None:
    """Matched anew without the lower scores, as an export with that threshold would be."""
    for prompt in evaluated(images, ["star", "ring"]).prompts:
        shown = [
            Case(
                [one for one in image.found if one.score >= prompt.threshold],
                image.wanted,
                image.size,
            )
            for image in images
        ]
        again = evaluated(shown, ["star", "ring"], min_score=FLOOR).prompts[prompt.prompt_index]
        assert again.at_min_score == at_own_threshold(prompt)


def at_own_threshold(prompt: PromptFigures) -> ThresholdFigures:
    return prompt.suggestion.figures if prompt.suggestion else prompt.at_min_score


@settings(max_examples=40)
@given(cases(prompts=2, classes=2))
def test_the_suggested_threshold_is_never_worse_than_one_half(images: list[Case]) -> None:
    for prompt in evaluated(images, ["star", "ring"]).prompts:
        if prompt.suggestion is not None:
            assert prompt.suggestion.figures.f1 is not None
            assert prompt.at_min_score.f1 is not None
            assert prompt.suggestion.figures.f1 >= prompt.at_min_score.f1


@pytest.mark.parametrize(
    ("instances", "threshold"),
    [
        ([(0.9, True), (0.3, True), (0.2, False)], 0.25),
        ([(0.9, True), (0.8, True), (0.2, False)], 0.5),
        ([(0.9, True), (0.301, True), (0.3, False)], 0.3005),
        # 0.85 and 0.58 are as good, and the gap around 0.85 is the wider one
        ([(0.9, True), (0.8, False), (0.7, False), (0.6, True), (0.55, False)], 0.85),
        ([(0.9, True), (0.8, False), (0.7, False), (0.6, True), (0.45, False)], 0.53),
        ([(0.3, True)], 0.2),  # the middle between 0.3 and the floor
        ([(0.1, True)], 0.1),
    ],
)
def test_the_middle_of_the_gap_is_rounded(
    instances: list[tuple[float, bool]], threshold: float
) -> None:
    suggestion = suggest(rows(instances), positives=2, floor=FLOOR)
    assert suggestion is not None
    assert suggestion.threshold == threshold


def test_neighbouring_numbers_are_still_told_apart() -> None:
    above = np.float32(0.7)
    below = np.nextafter(above, np.float32(0))
    instances = [(float(above), True), (float(below), False)]
    suggestion = suggest(rows(instances), positives=1, floor=FLOOR)
    assert suggestion is not None
    assert suggestion.threshold == 0.7
    assert suggestion.figures == figures_at(0.7, instances=rows(instances), positives=1)
    assert suggestion.figures.precision == 1


def test_nothing_is_suggested_without_truth_or_without_a_match() -> None:
    without_truth = Case([Found(SQUARE, 0.9)])
    without_match = Case([Found(SQUARE, 0.9)], [Wanted(ELSEWHERE)])
    for image in (without_truth, without_match, Case()):
        (prompt,) = evaluated([image]).prompts
        assert prompt.suggestion is None
        assert prompt.threshold == 0.5


def test_nothing_is_suggested_where_it_is_not_asked_for() -> None:
    image = Case([Found(SQUARE, 0.9)], [Wanted(SQUARE)])
    (prompt,) = evaluated([image], suggest=False, min_score=0.7).prompts
    assert prompt.suggestion is None
    assert prompt.threshold == 0.7


def test_precision_recall_and_f1_are_those_of_the_counts() -> None:
    figures = figures_at(0.5, instances=rows([(0.9, True), (0.6, False), (0.4, True)]), positives=4)
    assert figures == ThresholdFigures(
        true_positives=1, false_positives=1, misses=3, precision=0.5, recall=0.25, f1=1 / 3
    )


def test_shares_of_nothing_are_not_numbers() -> None:
    figures = figures_at(0.5, instances=rows([]), positives=0)
    assert (figures.precision, figures.recall, figures.f1) == (None, None, None)


def test_the_better_of_two_instances_of_one_thing_is_right() -> None:
    image = Case([Found(SQUARE, 0.6), Found(SQUARE, 0.9)], [Wanted(SQUARE)])
    (prompt,) = evaluated([image]).prompts
    assert prompt.suggestion is not None
    assert prompt.suggestion.threshold == 0.75
    assert (prompt.histogram.true[18], prompt.histogram.false[12]) == (1, 1)
    assert (sum(prompt.histogram.true), sum(prompt.histogram.false)) == (1, 1)


def test_the_last_bin_has_a_score_of_1() -> None:
    (prompt,) = evaluated([Case([Found(SQUARE, 1.0)], [Wanted(SQUARE)])]).prompts
    assert prompt.histogram.true[-1] == 1


@given(scored)
def test_a_curve_has_a_point_for_each_score(instances: list[tuple[float, bool]]) -> None:
    positives = 1 + sum(right for _, right in instances)
    points = curve(rows(instances), positives=positives)
    assert [np.float32(point.threshold) for point in points] == sorted(
        {np.float32(score) for score, _ in instances}, reverse=True
    )
    for point in points:
        figures = figures_at(point.threshold, instances=rows(instances), positives=positives)
        assert (point.precision, point.recall) == (figures.precision, figures.recall)


def test_a_curve_of_very_many_scores_has_100_points_with_both_ends() -> None:
    instances = [(n / 1000, n % 2 == 0) for n in range(100, 1000)]
    points = curve(rows(instances), positives=500)
    assert len(points) == 100
    assert (points[0].threshold, points[-1].threshold) == (0.999, 0.1)
