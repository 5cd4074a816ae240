import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pycocotools import mask as coco_mask

from tests.unit.workers.engine.masks import iou, pixels_of
from workers.engine.mask_encoding import EncodedMask, encode, encode_changes
from workers.engine.mask_resizing import Crop, resize


def whole(mask: np.ndarray) -> Crop:
    return Crop(mask, 0, 0, mask.shape[1], mask.shape[0])


def check(mask: np.ndarray, encoded: EncodedMask | None) -> None:
    """Against pycocotools on the whole mask."""
    if not mask.any():
        assert encoded is None
        return
    expected = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
    assert encoded is not None
    assert encoded.rle.counts == expected["counts"]
    assert list(encoded.rle.size) == expected["size"]
    assert encoded.area == coco_mask.area(expected) == mask.sum()
    assert list(encoded.box) == coco_mask.toBbox(expected).tolist()


@given(npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_run_lengths_equal_those_of_pycocotools_to_the_byte(mask: np.ndarray) -> None:
    check(mask, encode(whole(mask)))


@st.composite
def lengths_of_runs(draw: st.DrawFn) -> list[int]:
    """From one pixel to more than any image has in a column; the first of them may be 0.

    And it is short: where all numbers take six characters, pycocotools' rleToString writes a NUL
    behind the memory that it asked for.
    """
    size = st.integers(0, 27).flatmap(lambda bits: st.integers(1 << bits >> 1, 1 << bits))
    others = draw(st.lists(size, min_size=1, max_size=300))
    return [draw(st.integers(0, 15)), *(length + 1 for length in others)]


@given(lengths_of_runs(), st.integers(1, 10_000))
def test_runs_of_any_length_equal_those_of_pycocotools_to_the_byte(
    lengths: list[int], height: int
) -> None:
    width = -(-sum(lengths) // height)
    lengths[-1] += width * height - sum(lengths)
    expected = coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
    encoded = encode_changes(np.cumsum(lengths[:-1]), width=width, height=height)
    assert encoded is not None
    assert encoded.rle.counts == expected["counts"]
    assert encoded.area == sum(lengths[1::2])
    if width * height < 2**32:  # maskApi.c counts in uint
        assert list(encoded.box) == coco_mask.toBbox(expected).tolist()


def test_changes_may_come_in_32_bits() -> None:
    changes = np.array([3, 5, 1_999_999_999], np.int32)
    encoded = encode_changes(changes, width=50_000, height=50_000)
    assert encoded is not None
    assert encoded.area == 2 + 2_500_000_000 - 1_999_999_999
    assert encoded.box == (0, 0, 50_000, 50_000)


def test_a_mask_without_changes_is_empty() -> None:
    assert encode_changes(np.empty(0, np.int64), width=3, height=2) is None


@given(st.data(), st.integers(1, 40), st.integers(1, 40))
def test_a_crop_encodes_to_the_bytes_of_the_whole_mask(
    data: st.DataObject, height: int, width: int
) -> None:
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    shape = (data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))
    inside = data.draw(npst.arrays(bool, shape))
    mask = np.zeros((height, width), bool)
    mask[top : top + shape[0], left : left + shape[1]] = inside
    check(mask, encode(Crop(inside, left, top, width, height)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (13, 7), (300, 400)])
def test_full_empty_one_pixel_and_striped_masks_encode_as_in_pycocotools(
    shape: tuple[int, int],
) -> None:
    empty = np.zeros(shape, bool)
    check(empty, encode(whole(empty)))
    check(~empty, encode(whole(~empty)))
    for place in (0, empty.size // 2, empty.size - 1):
        pixel = empty.copy()
        pixel.flat[place] = True
        check(pixel, encode(whole(pixel)))
    for stripes in (np.indices(shape)[0] % 2 == 0, np.indices(shape)[1] % 2 == 1):
        check(stripes, encode(whole(stripes)))


def resized(mask: np.ndarray, *, width: int, height: int) -> np.ndarray:
    full = np.zeros((height, width), bool)
    crop = resize(mask, width=width, height=height)
    if crop is not None:
        rows, columns = crop.inside.shape
        full[crop.y : crop.y + rows, crop.x : crop.x + columns] = crop.inside
    return full


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 300), st.integers(1, 300))
def test_resizing_a_crop_gives_the_pixels_of_torch(
    seed: int, small: int, width: int, height: int
) -> None:
    mask = np.random.default_rng(seed).normal(-1, 1, (small, small)).astype(np.float32)
    values = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None], size=(height, width), mode="bilinear"
    )[0, 0].numpy()
    ours = resized(mask, width=width, height=height)
    sure = np.abs(values) > 1e-5  # nearer to 0 the two may round to different sides
    assert (ours == (values > 0))[sure].all()


def test_large_masks_are_resized_strip_by_strip_without_a_seam() -> None:
    y, x = np.mgrid[:64, :64]
    mask = (0.5 - np.hypot(x - 31.5, y - 31.5) / 60).astype(np.float32)
    ours = resized(mask, width=1500, height=1100)
    values = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None], size=(1100, 1500), mode="bilinear"
    )
    assert iou(ours, (values[0, 0] > 0).numpy()) > 0.9999


def test_a_mask_below_zero_everywhere_has_no_crop() -> None:
    assert resize(np.full((8, 8), -0.1, np.float32), width=100, height=100) is None


def test_run_lengths_decode_to_the_mask() -> None:
    mask = np.random.default_rng(1).random((33, 21)) > 0.5
    encoded = encode(whole(mask))
    assert encoded is not None
    assert (pixels_of(encoded.rle) == mask).all()
