"""Masks as polygons: along the edges of pixels, so that filling them gives the mask back.

Coordinates are corners of pixels: (0, 0) is the image's top left corner, and the first pixel lies
between it and (1, 1). A ring is an N x 2 float64 array of (x, y), not closed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as coco

from domain.annotations import Rle
from domain.exports import PolygonLoss
from domain.rle import Box, empty_mask, unroll

# Of the pixels around a corner, as 1 + 2 + 4 + 8 for north-west, south-west, north-east,
# south-east: how often outlines turn there.
_TURNS = np.array([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0], np.uint8)
_MAIN_DIAGONAL, _OTHER_DIAGONAL = 9, 6


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
    corner = np.array([x, y])
    return [
        Outline(
            corner + _simplified(exterior, tolerance),
            tuple(corner + _simplified(hole, tolerance) for hole in holes),
        )
        for exterior, *holes in _parts(unroll(mask, box))
    ]


def _parts(pixels: np.ndarray) -> list[list[np.ndarray]]:
    """The rings of each connected part, the exterior first, in corners of `pixels`, int32."""
    padded = np.pad(pixels, 1)
    _, labels = cv2.connectedComponents(padded, connectivity=4)
    parts: dict[int, list[np.ndarray]] = {}
    for ring in _rings(padded, labels):
        x, y = ring[0]
        inside, above = labels[y + 1, x + 1], labels[y, x + 1]
        parts.setdefault(int(inside or above), []).append(ring)
    return list(parts.values())


def _rings(padded: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
    """All outlines by their top left corners, row by row; to the right from there.

    In a row of corners the first and second are ends of an edge, and so on; and in a column.
    """
    corners, below = _corners(padded, labels)
    across = np.lexsort((below, corners[:, 1], corners[:, 0])).reshape(-1, 2)
    along = np.empty(len(corners), int)
    along[across] = across[:, ::-1]
    for ring in _cycles(along.tolist()):
        yield corners[ring]


def _corners(padded: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where outlines turn: N x 2 int32 of (x, y), row by row, and for each whether it is the lower
    one of two at the same place.

    Where two pixels touch by a corner, two outlines turn, or one does twice: so that no ring
    comes by one place twice, they turn away from each other around the pixels of the mask if these
    belong to different parts, else around the pixels between.
    """
    pairs = padded[:-1] + 2 * padded[1:]
    around = pairs[:, :-1] + 4 * pairs[:, 1:]
    turns = _TURNS[around]
    rows, columns = np.nonzero(turns)
    times = turns[rows, columns]
    codes = around[rows, columns]
    one_part = np.where(
        codes == _MAIN_DIAGONAL,
        labels[rows, columns] == labels[rows + 1, columns + 1],
        labels[rows + 1, columns] == labels[rows, columns + 1],
    )
    left_is_upper = (codes == _MAIN_DIAGONAL) != one_part
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


def _simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    if not tolerance:
        return ring.astype(float)
    simple = cv2.approxPolyDP(ring, tolerance, closed=True)[:, 0]
    return (simple if len(simple) > 2 else ring).astype(float)


def without_holes(outline: Outline) -> np.ndarray:
    """One ring: each hole is cut in by a bridge to the left, there and back."""
    ring = outline.exterior
    for hole in sorted(outline.holes, key=lambda hole: tuple(_leftmost(hole)[1])):
        start, corner = _leftmost(hole)
        place, landing = _left_of(corner, ring)
        ring = _spliced(ring, place, landing, np.roll(hole, -start, axis=0))
    return ring


def _leftmost(ring: np.ndarray) -> tuple[int, np.ndarray]:
    """The topmost of the leftmost corners, with its place."""
    place = int(np.lexsort((ring[:, 1], ring[:, 0]))[0])
    return place, ring[place]


def _left_of(corner: np.ndarray, ring: np.ndarray) -> tuple[int, np.ndarray]:
    """The first point of the ring to the left of `corner`, and the place before it."""
    x, y = corner
    ends = np.roll(ring, -1, axis=0)
    low, high = np.minimum(ring[:, 1], ends[:, 1]), np.maximum(ring[:, 1], ends[:, 1])
    (met,) = np.nonzero((low <= y) & (y <= high) & (low < high))
    (x0, y0), (x1, y1) = ring[met].T, ends[met].T
    at = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    at[at > x] = -np.inf
    nearest = int(at.argmax())
    return int(met[nearest]), np.array([at[nearest], y])


def _spliced(ring: np.ndarray, place: int, landing: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`ring` up to `landing`, which lies on the edge from `place` on, then around `other` from its
    first corner, and back."""
    return np.concatenate(
        [ring[: place + 1], [landing], other, other[:1], [landing], ring[place + 1 :]]
    )


def one_ring(parts: Sequence[Outline]) -> np.ndarray:
    """One ring for all parts, without holes: each is joined with what is nearest of those before
    by a bridge, there and back. Filled by the even-odd rule, bridges have no area."""
    rings = sorted(map(without_holes, parts), key=lambda ring: tuple(_leftmost(ring)[1]))
    whole = rings[0]
    for ring in rings[1:]:
        apart = np.square(whole[:, None] - ring).sum(axis=2)
        place, start = np.unravel_index(apart.argmin(), apart.shape)
        whole = _spliced(whole, int(place), whole[place], np.roll(ring, -start, axis=0))
    return whole


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
