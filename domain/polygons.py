"""Masks as polygons: along the edges of pixels, so that filling them gives the mask back.

Coordinates are corners of pixels: (0, 0) is the image's top left corner, and the first pixel lies
between it and (1, 1). A ring is an N x 2 float64 array of (x, y), not closed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from pycocotools import mask as coco

from domain.annotations import Rle
from domain.exports import PolygonLoss
from domain.rle import Box, empty_mask, unroll
from domain.simplification import simplified

# Of the pixels around a corner, as 1 + 2 + 4 + 8 for north-west, south-west, north-east,
# south-east: how often outlines turn there.
_TURNS = np.array([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0], np.uint8)
_MAIN_DIAGONAL = 9

_CORNERS_COMPARED = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A connected part of a mask: pixels that share no more than a corner are not connected."""

    exterior: np.ndarray
    holes: tuple[np.ndarray, ...]


def outlines(mask: Rle, box: Box, *, tolerance: float) -> list[Outline]:
    """The connected parts of a mask, none where it is empty. `box` holds all of its pixels.

    Exact for a `tolerance` of 0.
    """
    x, y, width, height = map(int, box)
    if not (width and height):
        return []
    rings, part_of = _rings(unroll(mask, box))
    if tolerance and rings:
        rings = simplified(rings, tolerance)
    parts: dict[int, list[np.ndarray]] = {}
    for part, ring in zip(part_of, rings, strict=True):
        parts.setdefault(part, []).append(ring + np.array([x, y], float))
    return [Outline(exterior, tuple(holes)) for exterior, *holes in parts.values()]


def _rings(pixels: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
    """All outlines, N x 2 int32 corners of `pixels`, and the number of the part that each belongs
    to, an exterior before its holes. The part lies to the right of their way, as y points down.

    Of the corners in a row the first and second are ends of an edge, the third and fourth, and so
    on; and in a column.
    """
    padded = np.pad(pixels, 1)
    _, labels = cv2.connectedComponents(padded, connectivity=4)
    corners, lower = _corners(padded, labels)
    down = np.lexsort((lower, corners[:, 1], corners[:, 0])).reshape(-1, 2)
    along = np.empty(len(corners), int)
    along[down] = down[:, ::-1]
    rings = [corners[ring] for ring in _cycles(along.tolist())]
    x, y = np.array([ring[0] for ring in rings], int).reshape(-1, 2).T
    inside, above = labels[y + 1, x + 1], labels[y, x + 1]
    turned = [ring if part else ring[::-1] for ring, part in zip(rings, inside, strict=True)]
    return turned, np.where(inside, inside, above).tolist()


def _corners(padded: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where outlines turn: N x 2 int32 of (x, y), row by row, and for each whether it is the lower
    one of two at the same place.

    Where two pixels touch by a corner, two outlines turn, or one does twice: so that no ring
    comes by one place twice, they turn away from each other around the pixels of the mask if these
    belong to different parts, else around the pixels between.
    """
    pairs = padded[:-1] + 2 * padded[1:]
    around = pairs[:, :-1] + 4 * pairs[:, 1:]
    places = np.flatnonzero(_TURNS[around])
    rows, columns = np.divmod(places, around.shape[1])
    codes = around.ravel()[places]
    one_part = np.where(
        codes == _MAIN_DIAGONAL,
        labels[rows, columns] == labels[rows + 1, columns + 1],
        labels[rows + 1, columns] == labels[rows, columns + 1],
    )
    left_is_upper = (codes == _MAIN_DIAGONAL) != one_part
    times = _TURNS[codes]
    corners = np.repeat(np.stack([columns, rows], axis=1).astype(np.int32), times, axis=0)
    second = np.zeros(len(corners), bool)
    second[1:] = (corners[1:] == corners[:-1]).all(axis=1)
    return corners, second == np.repeat(left_is_upper, times)


def _cycles(along: list[int]) -> Iterator[list[int]]:
    """Corner 2n is joined with 2n + 1 by a horizontal edge, and each with `along` of it."""
    seen = bytearray(len(along) // 2)
    for pair in range(len(seen)):
        if seen[pair]:
            continue
        ring: list[int] = []
        corner = 2 * pair
        while not seen[corner >> 1]:
            seen[corner >> 1] = 1
            ring += (corner, corner ^ 1)
            corner = along[corner ^ 1]
        yield ring


def without_holes(outline: Outline) -> np.ndarray:
    """One ring: each hole is cut in by a bridge to what is next on its left, there and back, which
    crosses nothing."""
    ring = outline.exterior
    for hole in sorted(map(_from_leftmost, outline.holes), key=lambda hole: tuple(hole[0])):
        place, landing = _next_on_the_left(hole[0], ring)
        ring = _joined(ring, place, landing, hole)
    return ring


def _from_leftmost(ring: np.ndarray) -> np.ndarray:
    """From the topmost of the leftmost corners on."""
    return np.roll(ring, -np.lexsort((ring[:, 1], ring[:, 0]))[0], axis=0)


def _next_on_the_left(corner: np.ndarray, ring: np.ndarray) -> tuple[int, np.ndarray]:
    """The point of the ring, and the place of the corner before it. Rings that a format has moved
    may cross; where nothing is on the left, the nearest corner is taken."""
    (x, y), ends = corner, np.roll(ring, -1, axis=0)
    above, below = np.minimum(ring[:, 1], ends[:, 1]), np.maximum(ring[:, 1], ends[:, 1])
    (met,) = ((above <= y) & (y <= below) & (above < below)).nonzero()
    (x0, y0), (x1, y1) = ring[met].T, ends[met].T
    at = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    met, at = met[at <= x], at[at <= x]
    if not len(met):
        place, _ = _nearest(ring, corner[None])
        return place, ring[place]
    return int(met[at.argmax()]), np.array([at.max(), y])


def _joined(ring: np.ndarray, place: int, landing: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`ring` up to `landing`, which lies on its side from `place` on, then around `other` from its
    first corner, and back."""
    here = landing[None]
    pieces = [ring[: place + 1], here, other, other[:1], here, ring[place + 1 :]]
    return _without_repeats(np.concatenate(pieces))


def one_ring(parts: Sequence[Outline]) -> np.ndarray:
    """One ring for at least one part, without holes: each part is joined to the nearest corner of
    those before by a bridge, there and back. Filled by the even-odd rule, bridges have no area."""
    rings = [without_holes(part) for part in parts]
    corners = np.concatenate(rings)
    bounds = list(pairwise(np.cumsum([len(ring) for ring in rings]).tolist()))
    bridges = [_nearest(corners[:first], corners[first:past]) for first, past in bounds]
    detours: dict[int, list[int]] = {}
    for (first, past), (place, number) in zip(bounds[::-1], bridges[::-1], strict=True):
        start = first + number
        around = _with_detours([*range(start, past), *range(first, start)], detours)
        detours[place] = [*around, start, place, *detours.get(place, ())]
    return _without_repeats(corners[_with_detours(range(len(rings[0])), detours)])


def _nearest(one: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """The places of the corners that are nearest to each other. Of very many corners only some are
    looked at, at even distances."""
    steps = [1 + len(corners) // _CORNERS_COMPARED for corners in (one, other)]
    (x, y), (other_x, other_y) = one[:: steps[0]].T, other[:: steps[1]].T
    apart = np.square(x[:, None] - other_x) + np.square(y[:, None] - other_y)
    place, other_place = divmod(int(apart.argmin()), len(other_x))
    return place * steps[0], other_place * steps[1]


def _with_detours(places: Iterable[int], detours: Mapping[int, Sequence[int]]) -> list[int]:
    """The places of corners, each with the way from there and back to it, if there is one."""
    return [step for place in places for step in (place, *detours.get(place, ()))]


def _without_repeats(ring: np.ndarray) -> np.ndarray:
    moves = (ring != np.roll(ring, 1, axis=0)).any(axis=1)
    return np.compress(moves, ring, axis=0)


def coco_drawn(rings: Sequence[np.ndarray], size: tuple[int, int]) -> Rle:
    """The mask that pycocotools draws for these polygons in an image of (height, width)."""
    if not rings:
        return empty_mask(size)
    height, width = size
    drawn = coco.frPyObjects([ring.ravel().tolist() for ring in rings], height, width)
    return Rle(size, coco.merge(drawn)["counts"])


class LossMeter:
    """Adds up what polygons lose. The same masks in the same order give the same loss."""

    def __init__(self) -> None:
        self._drawn = 0
        self._sum = 0.0
        self._worst = 1.0
        self._holes = self._parts = self._dropped = 0

    def add(self, mask: Rle, drawn: Rle | None, *, holes: int, parts: int) -> None:
        """`drawn` is what the format's reader makes of the polygon, None where none was written;
        `holes` were cut in and `parts` joined to others."""
        if drawn is None:
            self._dropped += 1
            return
        iou = _iou(mask, drawn)
        self._drawn += 1
        self._sum += iou
        self._worst = min(self._worst, iou)
        self._holes += holes
        self._parts += parts

    def loss(self) -> PolygonLoss:
        """`instances` are those drawn."""
        mean = self._sum / self._drawn if self._drawn else 1.0
        return PolygonLoss(self._drawn, mean, self._worst, self._holes, self._parts, self._dropped)


def _iou(one: Rle, other: Rle) -> float:
    first, second = ({"size": rle.size, "counts": rle.counts} for rle in (one, other))
    return float(coco.iou([first], [second], [False])[0, 0])
