"""Views against a slow plain one, and their rules one by one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from domain.annotations import Rle
from domain.exports import ExportOptions, ShownInstance
from domain.results import ImageRow, InstanceRow
from domain.view import View, unknown_classes
from tests.unit.domain.any_masks import encoded, masks, tight_box
from tests.unit.domain.hard_masks import image_rows, pixels

SIZE = (6, 8)  # height, width
CATEGORIES = ["cat", "dog", "fox", "owl"]
UNREADABLE = Rle(SIZE, b"\0")


def options(**fields: Any) -> ExportOptions:
    return ExportOptions.model_validate({"format": "coco", **fields})


def image(orientation: int = 1) -> ImageRow:
    row, _ = image_rows(7, "a.jpg", size=SIZE[::-1], custom_id="own", orientation=orientation)
    return row


def row(
    number: int = 0,
    mask: np.ndarray | None = None,
    *,
    score: float = 0.9,
    category: str = "cat",
    threshold: float | None = None,
    area: int = 20,
) -> InstanceRow:
    """Without a mask, one that cannot be read."""
    rle, box = UNREADABLE, (1.0, 2.0, 3.0, 4.0)
    if mask is not None:
        (rle, _), box, area = encoded(mask), tight_box(mask), int(mask.sum())
    return InstanceRow(
        image_index=7,
        image="a.jpg",
        custom_id="own",
        instance=number,
        prompt_index=CATEGORIES.index(category),
        category=category,
        score=score,
        threshold=threshold,
        box=box,
        area=area,
        mask=rle,
    )


def numbers(rows: Sequence[InstanceRow], **fields: Any) -> list[int]:
    shown = View(options(**fields), CATEGORIES).show(image(), rows)
    return [found.instance for found in shown.instances]


def square(left: int, *, width: int = 4) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[1:5, left : left + width] = 1
    return mask


def test_without_options_everything_is_shown_as_it_is_and_no_mask_is_read() -> None:
    shown = View(options(), CATEGORIES).show(image(6), [row(3, category="dog")])
    assert (shown.image_index, shown.image, shown.custom_id) == (7, "a.jpg", "own")
    assert (shown.width, shown.height, shown.orientation) == (8, 6, 6)
    (found,) = shown.instances
    assert found == ShownInstance(3, 1, 1, 0.9, (1.0, 2.0, 3.0, 4.0), 20, UNREADABLE, 0.5)
    assert found.mask is UNREADABLE


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [1, 2]),  # 0.5, and the prompt's own 0.3
        ({"min_score": 0.6}, [1]),
        ({"min_score": 0.0}, [0, 1, 2]),
        ({"class_scores": {"cat": 0.2}}, [0, 1, 2]),
        ({"class_scores": {"dog": 0.5}}, [1]),
        ({"class_scores": {"dog": 0.5}, "min_score": 0.1}, [0, 1]),
        ({"class_scores": {"CAT": 0.2}}, [1, 2]),
    ],
)
def test_a_class_score_comes_before_the_score_for_all_and_that_before_the_prompts_own(
    fields: dict[str, Any], expected: list[int]
) -> None:
    rows = [
        row(0, score=0.4),
        row(1, score=0.7),
        row(2, score=0.4, category="dog", threshold=0.3),
    ]
    assert numbers(rows, **fields) == expected


@pytest.mark.parametrize("score", [0.95, float(np.float32(0.95))])
def test_scores_are_compared_as_32_bit_numbers(score: float) -> None:
    below = float(np.nextafter(np.float32(0.95), np.float32(0)))
    assert numbers([row(0, score=score), row(1, score=below)], min_score=0.95) == [0]
    assert numbers([row(0, score=score), row(1, score=below)], class_scores={"cat": 0.95}) == [0]


def test_a_class_score_is_that_of_the_prompts_name_and_not_of_the_name_shown() -> None:
    rows = [row(0, score=0.6), row(1, score=0.6, category="dog")]
    fields = {"classes": {"cat": "dog"}, "class_scores": {"dog": 0.7}}
    assert numbers(rows, **fields) == [0]


def test_areas_count_from_the_smallest_to_the_largest_both_included() -> None:
    rows = [row(number, area=area) for number, area in enumerate([9, 10, 20, 21])]
    assert numbers(rows, min_area=10, max_area=20) == [1, 2]


def test_classes_have_the_order_in_which_they_come_up_among_the_categories() -> None:
    names = {"cat": "pet", "owl": "pet", "dog": None, "fox": "cat"}
    view = View(options(classes=names), CATEGORIES)
    assert view.classes == ("pet", "cat")
    rows = [row(n, category=category) for n, category in enumerate(CATEGORIES)]
    found = view.show(image(), rows).instances
    assert [(one.instance, one.class_id) for one in found] == [(0, 0), (2, 1), (3, 0)]


def test_two_classes_may_swap_names() -> None:
    view = View(options(classes={"cat": "dog", "dog": "cat"}), CATEGORIES)
    assert view.classes == ("dog", "cat", "fox", "owl")


def test_a_category_that_the_result_does_not_list_is_an_error() -> None:
    with pytest.raises(KeyError):
        View(options(), ["dog"]).show(image(), [row(category="cat")])


def test_masks_compete_within_the_class_that_is_shown() -> None:
    same = [row(0, square(0), score=0.6), row(1, square(0), category="dog")]
    assert numbers(same, nms_within=0.5) == [0, 1]
    assert numbers(same, nms_within=0.5, classes={"cat": "pet", "dog": "pet"}) == [1]


def test_masks_of_different_classes_compete_across_them() -> None:
    rows = [row(0, square(0), score=0.6), row(1, square(0), category="dog"), row(2, square(4))]
    assert numbers(rows, nms_across=0.5) == [1, 2]


def test_classes_that_exclude_each_other_leave_one_of_each_place_and_their_own_alone() -> None:
    rows = [
        row(0, square(0), score=0.9),
        row(1, square(0), score=0.8),
        row(2, square(0), score=0.7, category="dog"),
        row(3, square(0), score=0.6, category="fox"),
    ]
    assert numbers(rows, exclusive=[{"classes": ["cat", "dog"]}]) == [0, 1, 3]


def test_groups_of_classes_settle_one_after_the_other() -> None:
    rows = [
        row(0, square(0), score=0.9, category="dog"),
        row(1, square(0), score=0.8, category="cat"),
        row(2, square(0), score=0.7, category="fox"),
    ]
    first, second = {"classes": ["cat", "fox"]}, {"classes": ["dog", "cat"]}
    assert numbers(rows, exclusive=[first, second]) == [0]
    assert numbers(rows, exclusive=[second, first]) == [0, 2]


def test_what_falls_under_a_threshold_suppresses_nothing() -> None:
    rows = [row(0, square(0), score=0.8), row(1, square(0), score=0.7, category="dog")]
    assert numbers(rows, nms_across=0.5, class_scores={"cat": 0.85}) == [1]


def test_the_best_of_an_image_are_kept_after_all_else_in_the_order_of_the_result() -> None:
    rows = [row(0, score=0.6), row(1, score=0.9), row(2, score=0.7), row(3, score=0.7)]
    assert numbers(rows, top_k=2) == [1, 2]
    crowd = [row(n, square(0), score=0.9) for n in range(3)] + [row(3, square(4), score=0.6)]
    assert numbers(crowd, nms_within=0.5, top_k=2) == [0, 3]


def test_names_that_the_result_does_not_have_are_told() -> None:
    asked = options(
        class_scores={"cat": 0.5, "cats": 0.5},
        classes={"dog": "pet", "puppy": "pet"},
        exclusive=[{"classes": ["pet", "dog"]}, {"classes": ["owl", "cats"]}],
    )
    assert unknown_classes(asked, CATEGORIES) == ["cats", "puppy", "dog"]
    assert unknown_classes(options(), []) == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_raw_coordinates_are_those_of_the_pixels_as_stored(orientation: int) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[1:4, 2] = mask[3, 2:7] = 1
    shown = View(options(coordinates="raw"), CATEGORIES).show(image(orientation), [row(0, mask)])
    (found,) = shown.instances
    stored = pixels(found.mask)
    assert (shown.height, shown.width) == stored.shape
    assert found.box == tight_box(stored)
    np.testing.assert_array_equal(put_upright(stored, orientation), mask)


def test_a_mask_that_is_upright_as_stored_is_not_read_for_raw_coordinates() -> None:
    shown = View(options(coordinates="raw"), CATEGORIES).show(image(1), [row(0)])
    assert shown.instances[0].mask is UNREADABLE


def put_upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    as_image = Image.fromarray(stored)
    as_image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(as_image))


# -- any options on any rows ----------------------------------------------------------------------

scores = st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9])
names = st.sampled_from(CATEGORIES)
any_rows = st.lists(
    st.builds(
        row,
        mask=masks(size=SIZE),
        score=scores,
        category=names,
        threshold=st.none() | scores,
    ),
    max_size=6,
).map(lambda rows: [replace(found, instance=n) for n, found in enumerate(rows)])
groups = st.lists(names, min_size=2, max_size=3)
any_options = st.builds(
    options,
    min_score=st.none() | scores,
    class_scores=st.dictionaries(names, scores),
    min_area=st.none() | st.integers(0, 20),
    max_area=st.none() | st.integers(10, 48),
    classes=st.dictionaries(names, st.none() | names | st.just("pet")),
    nms_within=st.none() | scores,
    nms_across=st.none() | scores,
    exclusive=st.lists(st.fixed_dictionaries({"classes": groups, "iou": scores}), max_size=2),
    top_k=st.none() | st.integers(1, 4),
    coordinates=st.sampled_from(["oriented", "raw"]),
)


@given(any_options, any_rows, st.integers(1, 8))
def test_a_view_shows_what_a_slow_plain_one_shows(
    asked: ExportOptions, rows: list[InstanceRow], orientation: int
) -> None:
    view = View(asked, CATEGORIES)
    shown = view.show(image(orientation), rows)

    expected = plain_view(asked, rows)
    assert [
        (found.instance, view.classes[found.class_id], found.score) for found in shown.instances
    ] == [(found.instance, name, found.score) for found, name in expected]
    for found, (one, _) in zip(shown.instances, expected, strict=True):
        raw = asked.coordinates == "raw"
        upright = put_upright(pixels(found.mask), orientation) if raw else pixels(found.mask)
        np.testing.assert_array_equal(upright, pixels(one.mask))
        assert (found.box, found.area) == (tight_box(pixels(found.mask)), one.area)


def plain_view(asked: ExportOptions, rows: list[InstanceRow]) -> list[tuple[InstanceRow, str]]:
    """In the order of the options' fields; decodes all it compares."""
    kept = [one for one in rows if np.float32(one.score) >= np.float32(wanted_score(asked, one))]
    if asked.min_area is not None:
        kept = [one for one in kept if pixels(one.mask).sum() >= asked.min_area]
    if asked.max_area is not None:
        kept = [one for one in kept if pixels(one.mask).sum() <= asked.max_area]
    renamed = [(one, asked.classes.get(one.category, one.category)) for one in kept]
    named = [(one, name) for one, name in renamed if name is not None]
    if asked.nms_within is not None:
        named = plain_nms(named, asked.nms_within, lambda one, other: one == other)
    if asked.nms_across is not None:
        named = plain_nms(named, asked.nms_across, lambda one, other: True)
    for group in asked.exclusive:
        pairs = {(one, other) for one in group.classes for other in group.classes if one != other}
        named = plain_nms(named, group.iou, lambda *pair, pairs=pairs: pair in pairs)
    best = sorted(named, key=lambda pair: -pair[0].score)[: asked.top_k]
    return [pair for pair in named if pair in best]


def wanted_score(asked: ExportOptions, one: InstanceRow) -> float:
    for score in (asked.class_scores.get(one.category), asked.min_score, one.threshold):
        if score is not None:
            return score
    return 0.5


def plain_nms(
    named: list[tuple[InstanceRow, str]], threshold: float, compete: Any
) -> list[tuple[InstanceRow, str]]:
    kept: list[tuple[InstanceRow, str]] = []
    for one, name in sorted(named, key=lambda pair: -pair[0].score):
        if all(
            plain_iou(one, other) <= threshold
            for other, other_name in kept
            if compete(name, other_name)
        ):
            kept.append((one, name))
    return [pair for pair in named if pair in kept]


def plain_iou(one: InstanceRow, other: InstanceRow) -> float:
    first, second = pixels(one.mask).astype(bool), pixels(other.mask).astype(bool)
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 0.0


def test_a_comparison_of_many_masks_can_be_ended_between_any_two() -> None:
    seen: list[None] = []

    def end_soon() -> None:
        seen.append(None)
        if len(seen) == 5:
            raise InterruptedError

    rows = [row(number, square(number % 4)) for number in range(100)]
    view = View(options(nms_across=0.9), CATEGORIES, before_each=end_soon)
    with pytest.raises(InterruptedError):
        view.show(image(), rows)
    assert len(seen) == 5


def test_classes_are_looked_up_at_once_however_many_there_are() -> None:
    """By looking through them all for each it takes minutes."""
    many = [f"class {number}" for number in range(200_000)]
    groups = [{"classes": many[-1000:], "iou": 0.5}] * 20
    assert unknown_classes(options(exclusive=groups), many) == []
