"""Run lengths to pixels and back, against pycocotools."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from domain.rle import compress, empty_mask, roll, run_lengths, spread, unroll
from tests.unit.domain.any_masks import encoded, masks


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


@given(st.data(), st.integers(1, 20), st.integers(1, 20))
def test_pixels_at_any_place_are_rolled_up_as_by_pycocotools(
    data: st.DataObject, height: int, width: int
) -> None:
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    shape = (data.draw(st.integers(1, height - y)), data.draw(st.integers(1, width - x)))
    pixels = data.draw(arrays(bool, shape))
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + shape[0], x : x + shape[1]] = pixels

    rle, _ = encoded(mask)

    assert roll(pixels, x=x, y=y, size=(height, width)) == rle


def test_a_mask_without_pixels_is_one_run() -> None:
    rle, _ = encoded(np.zeros((5, 7), np.uint8))
    assert empty_mask((5, 7)) == rle


@given(st.lists(st.integers(0, 2**38), min_size=1, max_size=50))
def test_lengths_of_any_size_come_back(lengths: list[int]) -> None:
    assert run_lengths(compress(np.array(lengths))).tolist() == lengths


@pytest.mark.parametrize("lengths", [[6], [0, 6], [1, 2, 3], [0, 1, 4, 1]])
def test_lengths_are_written_as_by_pycocotools(lengths: list[int]) -> None:
    expected = coco_mask.frPyObjects({"size": [2, 3], "counts": lengths}, 2, 3)
    assert compress(np.array(lengths)) == expected["counts"]


def test_an_unrolled_box_may_be_empty() -> None:
    assert unroll(empty_mask((5, 7)), (0.0, 0.0, 0.0, 0.0)).shape == (0, 0)


def test_ranges_are_spread_to_their_numbers() -> None:
    places, numbers = spread(np.array([5, 9, 2]), np.array([7, 9, 3]))
    assert (places.tolist(), numbers.tolist()) == ([0, 0, 2], [5, 6, 2])
