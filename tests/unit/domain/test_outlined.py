"""Outlines of many masks at once are those of each of them alone."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.exports import ShownImage, ShownInstance
from domain.polygons import Outline, outlined, outlines
from tests.unit.domain.any_masks import encoded, masks, tight_box

Corners = list[list[list[list[float]]]]  # of parts, of rings, of corners


def shown(images: Sequence[Sequence[np.ndarray]]) -> list[ShownImage]:
    """Images of these masks, whose sizes may be any."""
    return [
        ShownImage(index, f"{index}.png", None, 1, 1, 1, tuple(map(instance, masks)))
        for index, masks in enumerate(images)
    ]


def instance(mask: np.ndarray) -> ShownInstance:
    rle, _ = encoded(mask)
    return ShownInstance(0, 0, 0, 0.5, tight_box(mask), int(mask.sum()), rle, 0.5)


def corners(parts: Sequence[Outline]) -> Corners:
    return [[ring.tolist() for ring in (part.exterior, *part.holes)] for part in parts]


def alone(one: ShownInstance, tolerance: float) -> Corners:
    return corners(outlines(one.mask, one.box, tolerance=tolerance))


@settings(max_examples=60)
@given(st.lists(st.lists(masks(side=14), max_size=4), max_size=4), st.sampled_from([0.0, 0.5, 1.0]))
def test_masks_beside_each_other_have_the_outlines_that_each_has_alone(
    drawn: list[list[np.ndarray]], tolerance: float
) -> None:
    images = shown(drawn)
    found = list(outlined(images, tolerance=tolerance))
    assert [image for image, _ in found] == images
    for image, instances in found:
        assert [one for one, _ in instances] == list(image.instances)
        for one, parts in instances:
            assert corners(parts) == alone(one, tolerance)


@given(masks())
def test_an_inset_moves_all_sides_into_the_mask(mask: np.ndarray) -> None:
    ((_, ((_, parts),)),) = outlined(shown([[mask]]), tolerance=0, inset=0.25)
    exact_parts = outlines(encoded(mask)[0], tight_box(mask), tolerance=0)
    for part, exact in zip(parts, exact_parts, strict=True):
        for moved, ring in zip(
            (part.exterior, *part.holes), (exact.exterior, *exact.holes), strict=True
        ):
            assert (np.abs(moved - ring) == 0.25).all()
            middles = (moved + np.roll(moved, 1, axis=0)) / 2
            x, y = np.floor(middles).astype(int).T
            assert mask[y, x].all()


@pytest.mark.parametrize("per_image", [0, 1])
def test_few_images_are_waited_for(per_image: int) -> None:
    taken = 0

    def images() -> Iterator[ShownImage]:
        nonlocal taken
        (image,) = shown([[np.eye(8, dtype=np.uint8)] * per_image])
        while True:
            taken += 1
            yield image

    next(outlined(images(), tolerance=1))
    assert 2 <= taken <= 32


def test_an_image_with_very_many_instances_keeps_their_order() -> None:
    noise = np.random.default_rng(0).integers(0, 2, (60, 60), np.uint8)
    image = shown([[np.roll(noise, number, axis=1) for number in range(60)]])
    assert sum(len(one.mask.counts) for one in image[0].instances) > 1 << 16
    ((_, found),) = outlined(image, tolerance=0)
    assert [corners(parts) for _, parts in found] == [alone(one, 0) for one in image[0].instances]
