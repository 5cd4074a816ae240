import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from domain.annotations import Rle
from workers.interactive.nms import suppress
from workers.interactive.segmenter import SegmentedMask

SIDE = 20


def square(
    x: int, y: int, side: int, *, score: float = 0.9, prompt: int = 0, holes: bool = False
) -> SegmentedMask:
    pixels = np.zeros((SIDE, SIDE), np.uint8, order="F")
    pixels[y : y + side, x : x + side] = 1
    if holes:
        pixels[::2] = 0
    encoded = coco.encode(pixels)
    box = tuple(float(v) for v in coco.toBbox(encoded))
    rle = Rle((SIDE, SIDE), encoded["counts"])
    return SegmentedMask(prompt, score, rle, box, int(pixels.sum()))  # type: ignore[arg-type]


def test_of_duplicates_the_best_is_kept_and_the_order_stays() -> None:
    worse, apart, better = square(0, 0, 5, score=0.6), square(10, 10, 5), square(0, 0, 5, score=0.8)
    assert suppress([worse, apart, better], iou_threshold=0.5) == [apart, better]


def test_prompts_suppress_each_other() -> None:
    first, second = square(0, 0, 5, score=0.7), square(0, 0, 5, score=0.8, prompt=1)
    assert suppress([first, second], iou_threshold=0.5) == [second]


def test_of_equal_scores_the_earlier_prompt_wins() -> None:
    first, second = square(0, 0, 5), square(0, 0, 5, prompt=1)
    assert suppress([first, second], iou_threshold=0.5) == [first]


def test_an_iou_that_equals_the_threshold_is_no_overlap() -> None:
    whole, half = square(0, 0, 4), square(0, 0, 2, score=0.5)  # 4 of 16 pixels
    assert suppress([whole, half], iou_threshold=0.25) == [whole, half]
    assert suppress([whole, half], iou_threshold=0.24) == [whole]


def test_what_was_suppressed_suppresses_nothing_itself() -> None:
    best, between, last = (
        square(0, 0, 8, score=0.9),
        square(3, 0, 8, score=0.8),
        square(6, 0, 8, score=0.7),
    )
    assert suppress([last, between, best], iou_threshold=0.3) == [last, best]


def test_pixels_count_and_not_boxes() -> None:
    comb, whole = square(0, 0, 10, holes=True), square(0, 0, 10, score=0.5)
    assert suppress([comb, whole], iou_threshold=0.6) == [comb, whole]


def test_empty_masks_overlap_nothing() -> None:
    masks = [square(0, 0, 0), square(0, 0, 0), square(0, 0, 5)]
    assert suppress(masks, iou_threshold=0.0) == masks
    assert suppress([], iou_threshold=0.5) == []


@given(
    st.lists(
        st.builds(
            square,
            st.integers(0, 15),
            st.integers(0, 15),
            st.integers(0, 9),
            score=st.sampled_from([0.5, 0.6, 0.7, 0.8]),
            holes=st.booleans(),
        ),
        max_size=12,
    ),
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]),
)
def test_it_is_plain_greedy_suppression_on_exact_ious(
    masks: list[SegmentedMask], iou_threshold: float
) -> None:
    kept: list[int] = []
    for position in sorted(range(len(masks)), key=lambda place: (-masks[place].score, place)):
        ious = [_iou(masks[position], masks[other]) for other in kept]
        if all(iou <= iou_threshold for iou in ious):
            kept.append(position)
    found = suppress(masks, iou_threshold=iou_threshold)
    assert [id(mask) for mask in found] == [id(masks[position]) for position in sorted(kept)]


def _iou(one: SegmentedMask, other: SegmentedMask) -> float:
    first, second = (
        coco.decode({"size": mask.rle.size, "counts": mask.rle.counts}).astype(bool)
        for mask in (one, other)
    )
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 0.0


def test_a_comparison_that_nobody_awaits_any_more_ends() -> None:
    with pytest.raises(TimeoutError):
        suppress([square(0, 0, 5)], iou_threshold=0.5, deadline=time.monotonic() - 1)
