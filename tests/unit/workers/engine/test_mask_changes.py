import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torch import Tensor

from workers.engine.mask_changes import ImageMasks, changes
from workers.engine.mask_encoding import encode_changes


def random_masks(seed: int, count: int, height: int, width: int) -> Tensor:
    return torch.randn(count, height, width, generator=torch.Generator().manual_seed(seed))


def resized(image: ImageMasks) -> Tensor:
    """K x height x width, by torch and all at once."""
    size = (image.height, image.width)
    if not len(image.masks):
        return torch.empty(0, *size)
    return torch.nn.functional.interpolate(image.masks[None], size=size, mode="bilinear")[0]


def check(images: list[ImageMasks], *, pixels_at_once: int = 1 << 25) -> None:
    """Against pycocotools on torch's full-size masks."""
    found = changes(images, pixels_at_once=pixels_at_once)
    for image, positions in zip(images, found, strict=True):
        for values, ours in zip(resized(image), positions, strict=True):
            mask = (values > 0).numpy()
            expected = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
            encoded = encode_changes(ours, width=image.width, height=image.height)
            if not mask.any():
                assert encoded is None
                continue
            assert encoded is not None
            assert encoded.rle.counts == expected["counts"]
            assert list(encoded.rle.size) == expected["size"]
            assert encoded.area == mask.sum()
            assert list(encoded.box) == coco_mask.toBbox(expected).tolist()


@st.composite
def random_images(draw: st.DrawFn) -> ImageMasks:
    shape = [draw(st.integers(0, 5)), draw(st.integers(1, 24)), draw(st.integers(1, 24))]
    width, height = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    image = ImageMasks(random_masks(draw(st.integers(0, 2**32)), *shape), width, height)
    assume(not (resized(image).abs() < 1e-6).any())  # these may round to the other side of 0
    return image


@settings(deadline=None)
@given(st.lists(random_images(), max_size=3))
def test_run_lengths_equal_those_of_pycocotools_after_torch_to_the_byte(
    images: list[ImageMasks],
) -> None:
    check(images)


@settings(deadline=None)
@given(st.lists(random_images(), max_size=3), st.integers(1, 20_000))
def test_neither_groups_of_masks_nor_strips_of_columns_change_anything(
    images: list[ImageMasks], pixels_at_once: int
) -> None:
    check(images, pixels_at_once=pixels_at_once)
    whole, pieces = changes(images), changes(images, pixels_at_once=pixels_at_once)
    for one, other in zip(whole, pieces, strict=True):
        assert [mask.tolist() for mask in one] == [mask.tolist() for mask in other]


@pytest.mark.parametrize("shape", [(8, 8), (1, 9), (9, 1), (1, 1), (288, 288)])
@pytest.mark.parametrize("size", [(1, 1), (160, 120), (31, 700), (1, 50), (50, 1), (8, 8)])
@pytest.mark.parametrize("pixels_at_once", [1, 10_000, 1 << 25])
def test_empty_full_one_pixel_and_striped_masks_encode_as_in_pycocotools(
    shape: tuple[int, int], size: tuple[int, int], pixels_at_once: int
) -> None:
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in shape), indexing="ij")
    one_pixel = (rows == shape[0] // 2) & (columns == shape[1] // 2)
    masks = [torch.zeros(shape), torch.ones(shape), one_pixel, rows % 2 == 0, columns % 2 == 1]
    # Not halves: their sums come to 0 exactly, and then it is rounding that decides.
    values = torch.stack([mask * 0.9 - 0.4371 for mask in masks])
    check([ImageMasks(values, *size)], pixels_at_once=pixels_at_once)


def test_a_mask_with_more_changes_than_there_is_room_for_is_complete() -> None:
    """Stripes along the rows: a hundred changes in each column, in three of four masks."""
    stripes = (torch.arange(100) % 2 - 0.4371)[:, None].expand(100, 100)
    masks = torch.stack([stripes, -stripes, torch.full((100, 100), -1.0), stripes])
    image = ImageMasks(masks, 200, 150)
    assert [len(positions) for positions in changes([image])[0]] == [19_999, 20_000, 0, 19_999]
    check([image])
    check([image], pixels_at_once=150 * 37)


def test_images_of_different_sizes_come_back_in_their_order() -> None:
    sizes = [(640, 480), (33, 999), (480, 640), (1, 1)]
    images = [
        ImageMasks(random_masks(seed, seed, 32, 48), *size) for seed, size in enumerate(sizes)
    ]
    assert [len(masks) for masks in changes(images)] == [0, 1, 2, 3]
    check(images)


def test_no_image_and_an_image_without_masks_give_nothing() -> None:
    assert changes([]) == []
    assert changes([ImageMasks(torch.empty(0, 8, 8), 100, 100)]) == [[]]


def test_positions_of_a_very_large_image_are_right() -> None:
    """A bar across all of 200 megapixels: each column changes at the same two rows."""
    mask = torch.full((1, 4, 4), -1.0)
    mask[:, 2] = 1
    width, height = 20_000, 10_000
    (positions,) = changes([ImageMasks(mask, width, height)])[0]
    column, row = np.divmod(positions, height)
    assert (column == np.repeat(np.arange(width), 2)).all()
    assert (row == np.tile([5000, 7500], width)).all()


def test_a_mask_on_a_wide_image_of_one_row_is_resized_in_strips() -> None:
    """Each column of it is as many values as the small mask has rows."""
    mask = torch.tensor([[-1.0, 1.0, -1.0, 1.0]]).expand(1, 64, 4)
    (positions,) = changes([ImageMasks(mask, 1_000_000, 1)])[0]
    assert positions.tolist() == [250_000, 500_000, 750_000]
