"""Outlines of masks: exact ones give the mask back, simplified ones are outlines still."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.annotations import Rle
from domain.exports import PolygonLoss
from domain.polygons import LossMeter, Outline, coco_drawn, one_ring, outlines, without_holes
from domain.rle import Box
from tests.unit.domain import hard_masks
from tests.unit.domain.any_masks import encoded, masks, tight_box

TOLERANCES = st.sampled_from([0.5, 0.75, 1.0, 2.0, 6.0])


def found(mask: np.ndarray, *, tolerance: float = 0.0, box: Box | None = None) -> list[Outline]:
    return outlines(encoded(mask)[0], box or tight_box(mask), tolerance=tolerance)


def drawn(rings: Sequence[np.ndarray], mask: np.ndarray) -> Rle:
    return coco_drawn(rings, (mask.shape[0], mask.shape[1]))


def rings_of(outline: Outline) -> list[np.ndarray]:
    return [outline.exterior, *outline.holes]


def all_rings(parts: Sequence[Outline]) -> list[np.ndarray]:
    return [ring for part in parts for ring in rings_of(part)]


def windings(rings: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """How often the rings go around each pixel's middle: 1 in a part, 0 beside it and in holes."""
    ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
    total = np.zeros(size, int)
    for (x0, y0), (x1, y1) in sides(rings):
        low, high = min(y0, y1), max(y0, y1)
        if low < high:
            at = x0 + (ys - y0) / (y1 - y0) * (x1 - x0)
            total += ((low <= ys) & (ys < high) & (at < xs)) * (1 if y1 < y0 else -1)
    return total


def sides(rings: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for ring in rings:
        yield from zip(ring, np.roll(ring, -1, axis=0), strict=True)


def area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


# -- exact ----------------------------------------------------------------------------------------


@given(masks())
def test_filled_by_any_rule_and_by_pycocotools_exact_outlines_give_the_mask_back(
    mask: np.ndarray,
) -> None:
    parts = found(mask)

    np.testing.assert_array_equal(windings(all_rings(parts), mask.shape), mask)
    assert drawn([without_holes(part) for part in parts], mask) == encoded(mask)[0]


@given(masks())
def test_holes_cut_in_and_parts_joined_change_nothing_that_is_filled(mask: np.ndarray) -> None:
    parts = found(mask)
    for part in parts:
        cut = without_holes(part)
        own = windings(rings_of(part), mask.shape)
        np.testing.assert_array_equal(windings([cut], mask.shape), own)
        assert area(cut) == sum(map(area, rings_of(part)))
    if parts:
        whole = one_ring(parts)
        np.testing.assert_array_equal(windings([whole], mask.shape), mask)
        assert drawn([whole], mask) == encoded(mask)[0]
        assert (whole != np.roll(whole, 1, axis=0)).any(axis=1).all()


@given(masks())
def test_parts_are_the_pixels_connected_by_their_sides_and_holes_what_they_enclose(
    mask: np.ndarray,
) -> None:
    parts = found(mask)

    count, labels = cv2.connectedComponents(mask, connectivity=4)
    assert len(parts) == count - 1
    for part in parts:
        own = windings(rings_of(part), mask.shape)
        (label,) = np.unique(labels[own == 1])
        np.testing.assert_array_equal(own, labels == label)
        beside, _ = cv2.connectedComponents(
            np.pad(labels != label, 1, constant_values=True).astype(np.uint8), connectivity=4
        )
        assert len(part.holes) == beside - 2  # the part itself, and what is outside


@given(masks())
def test_no_ring_comes_by_a_place_twice_and_all_turn_at_each_corner(mask: np.ndarray) -> None:
    for ring in all_rings(found(mask)):
        assert len(np.unique(ring, axis=0)) == len(ring)
        steps = np.roll(ring, -1, axis=0) - ring
        assert ((steps == 0).sum(axis=1) == 1).all()
        assert ((steps == 0) != (np.roll(steps, 1, axis=0) == 0)).all()


@given(masks())
def test_a_box_that_is_too_large_serves_as_well(mask: np.ndarray) -> None:
    whole = (0.0, 0.0, float(mask.shape[1]), float(mask.shape[0]))
    tight, loose = all_rings(found(mask)), all_rings(found(mask, box=whole))
    assert [ring.tolist() for ring in tight] == [ring.tolist() for ring in loose]


def test_one_pixel_is_a_square() -> None:
    ((exterior,),) = map(rings_of, found(hard_masks.one_pixel()))
    assert exterior.tolist() == [[50, 7], [51, 7], [51, 8], [50, 8]]
    assert exterior.dtype == np.float64


def test_a_mask_of_all_pixels_has_the_corners_of_the_image() -> None:
    ((exterior,),) = map(rings_of, found(np.ones((30, 20), np.uint8)))
    assert exterior.tolist() == [[0, 0], [20, 0], [20, 30], [0, 30]]


def test_an_empty_mask_has_no_outlines() -> None:
    empty = np.zeros((5, 7), np.uint8)
    assert found(empty) == found(empty, tolerance=1.0) == []
    assert found(empty, box=(0.0, 0.0, 7.0, 5.0), tolerance=1.0) == []
    assert drawn([], empty) == encoded(empty)[0]


def test_pixels_that_touch_at_a_corner_are_two_parts() -> None:
    one, other = found(np.eye(2, dtype=np.uint8))
    assert [1, 1] in one.exterior.tolist()
    assert [1, 1] in other.exterior.tolist()


def test_a_hole_may_touch_the_outside_and_another_hole_at_a_corner() -> None:
    mask = np.ones((5, 5), np.uint8)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = 0
    (part,) = found(mask)
    assert [hole.tolist() for hole in part.holes] == [
        [[1, 2], [2, 2], [2, 1], [1, 1]],
        [[2, 3], [3, 3], [3, 2], [2, 2]],
    ]
    assert drawn([without_holes(part)], mask) == encoded(mask)[0]


def test_a_part_in_a_hole_is_a_part_of_its_own() -> None:
    ring, island = found(hard_masks.hole())
    assert (len(ring.holes), len(island.holes)) == (1, 0)


def test_parts_are_joined_from_corner_to_nearest_corner_there_and_back() -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[2:6, 2:6] = mask[3:7, 9:30] = mask[10:14, 27:36] = 1
    whole = [tuple(corner) for corner in one_ring(found(mask)).tolist()]
    sides_of_whole = list(zip(whole, whole[1:] + whole[:1], strict=True))
    for there, back in ((6, 2), (9, 3)), ((30, 7), (27, 10)):
        assert (there, back) in sides_of_whole
        assert (back, there) in sides_of_whole
    assert len(whole) == 3 * 4 + 2 * 2


def test_a_hole_that_a_format_has_moved_outside_is_joined_all_the_same() -> None:
    square = np.array([[5.0, 5.0], [9.0, 5.0], [9.0, 9.0], [5.0, 9.0]])
    for way in (-4.0, 0.0), (4.5, -6.0):
        moved = Outline(square, (square[::-1] + np.array(way),))
        cut = without_holes(moved)
        assert np.isfinite(cut).all()
        expected = windings(rings_of(moved), (20, 20))
        np.testing.assert_array_equal(windings([cut], (20, 20)), expected)


# -- simplified -----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(masks(side=14), TOLERANCES)
def test_a_simplified_outline_stays_within_the_tolerance_and_keeps_parts_and_holes(
    mask: np.ndarray, tolerance: float
) -> None:
    for part, exact in zip(found(mask, tolerance=tolerance), found(mask), strict=True):
        for ring, whole in zip(rings_of(part), rings_of(exact), strict=True):
            assert set(map(tuple, ring.tolist())) <= set(map(tuple, whole.tolist()))
            assert max(distance(corner, ring) for corner in whole) <= tolerance
            assert area(ring) / area(whole) > 0.5


@settings(max_examples=60)
@given(masks(side=14), TOLERANCES)
def test_simplified_outlines_do_not_meet_but_at_corners_where_they_did(
    mask: np.ndarray, tolerance: float
) -> None:
    rings = all_rings(found(mask, tolerance=tolerance))
    for (start, end), (other_start, other_end) in combinations(sides(rings), 2):
        shared = corners_in_common((start, end), (other_start, other_end))
        if not shared:
            assert not meet(start, end, other_start, other_end)
        elif tuple(end) != tuple(other_start) and tuple(start) != tuple(other_end):
            assert 0 in end - start
            assert 0 in other_end - other_start
        else:
            way, other_way = end - start, other_end - other_start
            assert cross(way, other_way) != 0 or way @ other_way > 0


@settings(max_examples=60)
@given(masks(side=14), TOLERANCES)
def test_simplified_outlines_lie_in_each_other_as_they_did(
    mask: np.ndarray, tolerance: float
) -> None:
    parts = found(mask, tolerance=tolerance)
    for part in parts:
        own = windings(rings_of(part), mask.shape)
        assert set(np.unique(own)) <= {0, 1}
    assert set(np.unique(windings(all_rings(parts), mask.shape))) <= {0, 1}
    if parts:
        whole = windings([one_ring(parts)], mask.shape)
        np.testing.assert_array_equal(whole, windings(all_rings(parts), mask.shape))


def distance(point: np.ndarray, ring: np.ndarray) -> float:
    return min(segment_distance(point, start, end) for start, end in sides([ring]))


def segment_distance(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    way = end - start
    share = min(1.0, max(0.0, float((point - start) @ way) / float(way @ way)))
    return float(np.hypot(*(point - start - share * way)))


def cross(one: np.ndarray, other: np.ndarray) -> float:
    return float(one[0] * other[1] - one[1] * other[0])


def meet(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> bool:
    """Of two segments without a common end whether they cross or touch; coordinates are whole, so
    that this is exact."""
    turns = [np.sign(cross(b - a, end - a)) for end in (c, d)]
    turns += [np.sign(cross(d - c, end - c)) for end in (a, b)]
    apart = (np.minimum(a, b) > np.maximum(c, d)) | (np.minimum(c, d) > np.maximum(a, b))
    return turns[0] * turns[1] <= 0 and turns[2] * turns[3] <= 0 and not apart.any()


def corners_in_common(*segments: tuple[np.ndarray, np.ndarray]) -> set[tuple[float, float]]:
    one, other = (set(map(tuple, segment)) for segment in segments)
    return one & other


@given(masks())
def test_below_half_a_pixel_nothing_is_lost(mask: np.ndarray) -> None:
    parts = found(mask, tolerance=0.45)
    assert drawn([without_holes(part) for part in parts], mask) == encoded(mask)[0]


def test_a_large_disc_takes_few_corners() -> None:
    mask = hard_masks.disc(400, 300, x=200, y=150, radius=120)
    ((exact,),), ((simple,),) = (
        map(rings_of, found(mask, tolerance=tolerance)) for tolerance in (0.0, 1.0)
    )
    assert len(simple) < len(exact) / 7
    meter = LossMeter()
    meter.add(encoded(mask)[0], drawn([simple], mask), holes=0, parts=0)
    assert meter.loss().worst_iou > 0.985


def test_a_hole_stays_inside_although_the_outside_could_move_past_it() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 5:35] = 1
    mask[9, 18:22] = 1
    mask[10, 19:21] = 0
    (part,) = found(mask, tolerance=4.0)
    assert windings(rings_of(part), mask.shape)[10, 19] == 0
    assert windings([part.exterior], mask.shape)[10, 19] == 1


def test_a_part_stays_outside_of_another_that_bends_around_it() -> None:
    rows = ["###..", "..###", ".#..#", "...##", ".###."]
    mask = np.array([[pixel == "#" for pixel in row] for row in rows], np.uint8)
    parts = found(mask, tolerance=6.0)
    assert len(parts) == 2
    assert windings(all_rings(parts), mask.shape).max() == 1


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_simplified_too(seed: int) -> None:
    mask = (np.random.default_rng(seed).random((60, 70)) < 0.6).astype(np.uint8)
    parts = found(mask, tolerance=1.0)
    assert set(np.unique(windings(all_rings(parts), mask.shape))) <= {0, 1}


# -- loss -----------------------------------------------------------------------------------------


def test_the_loss_is_measured_between_masks_and_what_is_drawn() -> None:
    whole, half = np.ones((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    half[:2] = 1
    (mask, _), (drawn_half, _) = encoded(whole), encoded(half)
    meter = LossMeter()
    meter.add(mask, mask, holes=2, parts=0)
    meter.add(mask, drawn_half, holes=0, parts=3)
    meter.add(mask, None, holes=0, parts=0)
    assert meter.loss() == PolygonLoss(
        instances=2, mean_iou=0.75, worst_iou=0.5, holes=2, parts=3, dropped=1
    )


def test_without_polygons_nothing_is_lost() -> None:
    assert LossMeter().loss() == PolygonLoss()
