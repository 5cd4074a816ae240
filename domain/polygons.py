"""Masks as polygons: along the edges of pixels, so that filling them gives the mask back.

Coordinates are corners of pixels: (0, 0) is the image's top left corner, and the first pixel lies
between it and (1, 1). A ring is an N x 2 float64 array of (x, y), not closed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pycocotools import mask as coco

from domain.annotations import Rle
from domain.exports import PolygonLoss, ShownImage, ShownInstance
from domain.rle import Box, empty_mask
from domain.simplification import kept_corners
from domain.tracing import traced

_EDGES_AT_ONCE = 1 << 15  # each takes a quarter of a KiB meanwhile
_EDGES_OF_IMAGE = 1 << 10  # counted for each, so that not too many wait that have nothing in them
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
    (found,) = _outlines([mask], [box], tolerance=tolerance, inset=0.0)
    return found


def outlined(
    images: Iterable[ShownImage], *, tolerance: float, inset: float = 0.0
) -> Iterator[tuple[ShownImage, list[tuple[ShownInstance, list[Outline]]]]]:
    """Images with the outlines of their instances, which are found for some images at once: this
    takes less than half the time. Corners are moved by `inset` into the mask, to the side and up or
    down."""
    for some in _batches(images):
        found = (
            parts
            for shown in _pieces([instance for image in some for instance in image.instances])
            for parts in _outlines(
                [instance.mask for instance in shown],
                [instance.box for instance in shown],
                tolerance=tolerance,
                inset=inset,
            )
        )
        for image in some:
            yield image, list(zip(image.instances, found, strict=False))


def _batches(images: Iterable[ShownImage]) -> Iterator[list[ShownImage]]:
    batch: list[ShownImage] = []
    edges = 0
    for image in images:
        batch.append(image)
        edges += _EDGES_OF_IMAGE + sum(map(_edges, image.instances))
        if edges >= _EDGES_AT_ONCE:
            yield batch
            batch, edges = [], 0
    yield batch


def _pieces(instances: Sequence[ShownInstance]) -> Iterator[Sequence[ShownInstance]]:
    """Of an image that has very many."""
    edges = np.cumsum(list(map(_edges, instances)))
    firsts = np.flatnonzero(np.diff(edges // (2 * _EDGES_AT_ONCE), prepend=-1)).tolist()
    for first, past in pairwise([*firsts, len(instances)]):
        yield instances[first:past]


def _edges(instance: ShownInstance) -> int:
    """About how many there may be: some for each run, and some for each column."""
    return len(instance.mask.counts) + int(instance.box[2])


def _outlines(
    masks: Sequence[Rle], boxes: Sequence[Box], *, tolerance: float, inset: float
) -> list[list[Outline]]:
    rings = traced(masks, boxes)
    ring, shifts = rings.ring, rings.lefts[rings.mask]
    corners = rings.corners - np.stack([shifts, np.zeros_like(shifts)], axis=1)[ring]
    corners = corners + inset * rings.inwards()
    if tolerance and len(corners):
        places = kept_corners(rings.corners, ring, rings.mask, tolerance=tolerance)
        corners, ring = corners[places], ring[places]
    found: list[dict[int, list[np.ndarray]]] = [{} for _ in masks]
    bounds = pairwise(np.searchsorted(ring, np.arange(len(rings.part) + 1)).tolist())
    for mask, part, (first, past) in zip(rings.mask.tolist(), rings.part, bounds, strict=True):
        found[mask].setdefault(part, []).append(corners[first:past])
    return [
        [Outline(exterior, tuple(holes)) for exterior, *holes in parts.values()] for parts in found
    ]


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
    if len(rings) == 1:
        return rings[0]
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
    drawn = coco.frPyObjects([ring.ravel() for ring in rings], height, width)
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
        iou = None if drawn is None else _iou(mask, drawn)
        self.add_iou(iou, holes=holes, parts=parts)

    def add_iou(self, iou: float | None, *, holes: int, parts: int) -> None:
        """The same where masks have been compared."""
        if iou is None:
            self._dropped += 1
            return
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
