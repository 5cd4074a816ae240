"""A mask's outlines from its run lengths."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from domain.annotations import Rle
from domain.rle import Box, unroll
from workers.interactive.polygons import polygons

SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Noise or rectangles, so that there are both many small parts and large ones with holes."""
    size = draw(SIZES)
    if draw(st.booleans()):
        return draw(arrays(np.uint8, size, elements=st.integers(0, 1)))
    mask = np.zeros(size, np.uint8)
    for _ in range(draw(st.integers(0, 4))):
        rows = sorted((draw(st.integers(0, size[0])), draw(st.integers(0, size[0]))))
        columns = sorted((draw(st.integers(0, size[1])), draw(st.integers(0, size[1]))))
        mask[slice(*rows), slice(*columns)] ^= 1
    return mask


def encoded(mask: np.ndarray) -> tuple[Rle, Box]:
    rle = coco_mask.encode(np.asfortranarray(mask))
    x, y, width, height = coco_mask.toBbox(rle)
    return Rle(mask.shape, rle["counts"]), (x, y, width, height)


def tight_box(mask: np.ndarray) -> Box:
    """pycocotools gives full height to what wraps into the next column, so it is not asked."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    x, y = columns.min(), rows.min()
    return float(x), float(y), float(columns.max() - x + 1), float(rows.max() - y + 1)


@given(masks())
def test_the_outlines_inside_the_box_are_those_of_the_whole_mask(mask: np.ndarray) -> None:
    rle, loose = encoded(mask)

    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    whole = [contour[:, 0].tolist() for contour in contours] or [[]]

    assert polygons(rle, tight_box(mask)) == whole
    assert polygons(rle, loose) == whole


@given(masks())
def test_unrolled_pixels_are_those_that_pycocotools_decodes(mask: np.ndarray) -> None:
    rle, (x, y, width, height) = encoded(mask)
    rows, columns = slice(int(y), int(y + height)), slice(int(x), int(x + width))

    np.testing.assert_array_equal(unroll(rle, (x, y, width, height)), mask[rows, columns])


def test_long_runs_of_large_images_are_unrolled_too() -> None:
    mask = np.zeros((3000, 4000), np.uint8)
    cv2.circle(mask, (3100, 1400), 900, color=1, thickness=-1)
    mask[10, 3999] = 1
    rle, (x, y, width, height) = encoded(mask)

    inside = unroll(rle, (x, y, width, height))

    np.testing.assert_array_equal(inside, mask[int(y) :, int(x) :][: int(height), : int(width)])


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
