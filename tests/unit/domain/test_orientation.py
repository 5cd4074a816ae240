"""Back to the stored pixels, against Pillow's way from there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from domain.orientation import turn_to_stored
from tests.unit.domain.any_masks import encoded, masks, tight_box
from tests.unit.domain.hard_masks import pixels

EXIF_ORIENTATION = 0x0112


def put_upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    image = Image.fromarray(stored)
    image.getexif()[EXIF_ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(1, 9))
@given(mask=masks())
def test_what_pillow_puts_upright_is_turned_back(orientation: int, mask: np.ndarray) -> None:
    turn = turn_to_stored(orientation)
    rle, _ = encoded(mask)

    box, turned = turn.turned(tight_box(mask), rle)

    stored = pixels(turned)
    assert turn.size(mask.shape[1], mask.shape[0]) == stored.shape[::-1]
    assert box == tight_box(stored)
    np.testing.assert_array_equal(put_upright(stored, orientation), mask)


@given(st.integers(1, 8), masks())
def test_a_box_that_is_too_large_serves_as_well(orientation: int, mask: np.ndarray) -> None:
    turn = turn_to_stored(orientation)
    rle, _ = encoded(mask)
    whole = (0.0, 0.0, float(mask.shape[1]), float(mask.shape[0]))

    assert turn.turned(whole, rle)[1] == turn.turned(tight_box(mask), rle)[1]
