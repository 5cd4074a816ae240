"""A mask's outlines from its run lengths."""

import cv2
import numpy as np
import pytest
from hypothesis import given

from tests.unit.domain.any_masks import encoded, masks, tight_box
from workers.interactive.polygons import polygons


@given(masks())
def test_the_outlines_inside_the_box_are_those_of_the_whole_mask(mask: np.ndarray) -> None:
    rle, loose = encoded(mask)

    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    whole = [contour[:, 0].tolist() for contour in contours] or [[]]

    assert polygons(rle, tight_box(mask)) == whole
    assert polygons(rle, loose) == whole


def test_an_empty_mask_has_one_outline_without_points() -> None:
    rle, box = encoded(np.zeros((5, 7), np.uint8))

    assert polygons(rle, box) == [[]]


def test_a_hole_is_lost_and_parts_that_touch_at_a_corner_are_one() -> None:
    mask = np.zeros((12, 12), np.uint8)
    mask[1:6, 1:6] = 1
    mask[3, 3] = 0
    mask[6:9, 6:9] = 1

    (outline,) = polygons(*encoded(mask))

    assert [1, 1] in outline
    assert [8, 8] in outline
    assert [3, 3] not in outline


@pytest.mark.parametrize(
    ("pixels", "outline"), [([(4, 2)], [[2, 4]]), ([(4, 2), (4, 3)], [[2, 4], [3, 4]])]
)
def test_an_object_of_one_or_two_pixels_has_as_many_points(
    pixels: list[tuple[int, int]], outline: list[list[int]]
) -> None:
    mask = np.zeros((9, 9), np.uint8)
    for row, column in pixels:
        mask[row, column] = 1

    assert polygons(*encoded(mask)) == [outline]
