"""Outlines of masks, traced from their run lengths: what takes time is the length of an outline,
not the pixels inside.

Masks lie side by side in a strip as high as their images, a column apart, so that a few large steps
take the place of many small ones. A place in the strip is column * stride + row, where the stride
is more than the height. Edges are sides of pixels between a mask and what is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from domain.annotations import Rle
from domain.rle import Box, run_lengths, spread

# A horizontal edge of one pixel, as one of its ends has it, is the end's place * 4 and these bits.
# In the order of these numbers, which is down the columns, lower edges of masks come first.
_UPPER = 2  # it is the upper edge of the mask, else the lower one
_RIGHT = 1  # it goes to the right from here, else to the left


@dataclass(frozen=True, slots=True, eq=False)
class Rings:
    """The outlines of masks, ring by ring: none comes by a place twice, and each turns at all of
    its corners. What they are around lies to the right of their way, as y points down.

    `corners` are N x 2 int64 (x, y) in the strip, `ring` the number of each one's ring. For each
    ring, `mask` is the number of its mask, and `part` the number of the ring that is the exterior
    of its part, and comes before those around holes. `lefts`: where in the strip the first column
    of each mask's image would be.
    """

    corners: np.ndarray
    ring: np.ndarray
    mask: np.ndarray
    part: Sequence[int]
    lefts: np.ndarray

    def inwards(self) -> np.ndarray:
        """N x 2 of -1 and 1: from each corner to the side and up or down, away from both of its
        edges and into the mask."""
        (enters_x, enters_y), (leaves_x, leaves_y) = self.corners[::2].T, self.corners[1::2].T
        following = np.arange(1, len(enters_x) + 1)
        (lasts,) = (self.ring[::2] != np.append(self.ring[2::2], -1)).nonzero()
        following[lasts] = np.append(0, lasts[:-1] + 1)
        found = np.empty_like(self.corners)
        found[::2, 1] = found[1::2, 1] = np.sign(leaves_x - enters_x)
        found[1::2, 0] = np.sign(leaves_y - enters_y[following])
        found[2 * following, 0] = found[1::2, 0]
        return found


def traced(masks: Sequence[Rle], boxes: Sequence[Box]) -> Rings:
    """Of at least one mask. Each lies in its box."""
    stride = max(mask.size[0] for mask in masks) + 1
    ends = np.cumsum([int(box[2]) + 1 for box in boxes])
    firsts = np.append(0, ends[:-1])
    lefts = firsts - [int(box[0]) for box in boxes]
    edges = [_edges(mask, stride) + stride * left for mask, left in zip(masks, lefts, strict=True)]
    strip = _Strip.of(np.concatenate(edges), stride=stride, width=int(ends[-1]))
    tour = strip.tour()
    if len(strip.doubles):
        strip, tour = strip.untangled(tour)
    corners = strip.corners_of(tour)
    mask = np.searchsorted(firsts, corners[2 * tour.starts, 0], side="right") - 1
    return Rings(corners, np.repeat(tour.ring, 2), mask, strip.parts(tour), lefts)


def _edges(mask: Rle, stride: int) -> np.ndarray:
    """The places of upper and lower edges, by turns down the columns: where runs begin and end,
    and where one goes on from one column to the next."""
    rows = mask.size[0]
    ends = np.cumsum(run_lengths(mask.counts))
    runs = ends[: len(ends) // 2 * 2].reshape(-1, 2)
    columns = (runs - (0, 1)) // rows
    first, last = columns.T
    places = (runs + columns * (stride - rows)).ravel()
    if (last > first).any():
        _, column = spread(first + 1, last + 1)
        tops = column * stride
        places = np.sort(np.concatenate([places, tops - stride + rows, tops]))
    return places


@dataclass(frozen=True, slots=True, eq=False)
class _Tour:
    """Horizontal edges by their numbers, in the order in which rings come by them; the ring of
    each, where each ring starts, and which of its edges is the first one row by row."""

    edges: np.ndarray
    ring: np.ndarray
    starts: np.ndarray
    firsts: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Strip:
    """Of its corners in a row the first and second are ends of an edge, the third and fourth, and
    so on, and so in a column. Corner 2n, row by row, is the left end of the horizontal edge n.

    `edges` are places of those of one pixel. `keys` are those of corners row by row, `is_upper` is
    for each horizontal edge whether the mask lies below it. `down`: the corners' numbers, down the
    columns; `doubles`: where in these are two at one place.
    """

    stride: int
    width: int
    edges: np.ndarray
    keys: np.ndarray
    is_upper: np.ndarray
    down: np.ndarray
    doubles: np.ndarray

    @classmethod
    def of(cls, edges: np.ndarray, *, stride: int, width: int) -> "_Strip":
        """Outlines turn where an edge goes to one side only.

        Or where one goes to either side, but the mask is on the other side of it: there pixels
        touch by a corner, and two outlines turn, or one does twice. The lower edge then comes
        first, so that outlines turn around the pixels of the mask.
        """
        rightwards = 4 * edges + _RIGHT
        rightwards[::2] += _UPPER
        ends = np.concatenate([rightwards, rightwards + (4 * stride - _RIGHT)])
        ends.sort(kind="stable")  # two sorted pieces, which it merges
        turns = np.ones(len(ends), bool)
        straight = ends[1:] ^ ends[:-1] == _RIGHT
        turns[1:] ^= straight
        turns[:-1] ^= straight
        corners = ends[turns]
        places = corners >> 2
        columns, rows = np.divmod(places, stride)
        keys = (rows * width + columns) * 2 + (corners & _RIGHT)
        order = keys.argsort()
        down = np.empty_like(order)
        down[order] = np.arange(len(order))
        is_upper = (corners[order[::2]] & _UPPER).astype(bool)
        (doubles,) = (places[1:] == places[:-1]).nonzero()
        return cls(stride, width, edges, keys[order], is_upper, down, doubles)

    def tour(self) -> _Tour:
        """Upper edges are gone along to the right, lower ones to the left."""
        along = np.empty_like(self.down)
        along[self.down[::2]], along[self.down[1::2]] = self.down[1::2], self.down[::2]
        leaving = np.arange(0, len(along), 2) + self.is_upper
        cycles = _cycles((along[leaving] >> 1).tolist(), self.is_upper.tolist())
        edges, counts, firsts = (np.array(numbers, int) for numbers in cycles)
        ring = np.repeat(np.arange(len(counts)), counts)
        return _Tour(edges, ring, np.cumsum(counts) - counts, firsts)

    def untangled(self, tour: _Tour) -> tuple["_Strip", _Tour]:
        """No ring comes by a place twice: where pixels of one part touch by a corner, outlines turn
        around what is between them."""
        part = np.empty(len(self.is_upper), int)
        part[tour.edges] = np.array(self.parts(tour))[tour.ring]
        pairs = np.stack([self.doubles, self.doubles + 1])
        one, other = part[self.down[pairs] >> 1]
        pairs = pairs[:, one == other]
        if not pairs.size:
            return self, tour
        down = self.down.copy()
        down[pairs] = down[pairs[::-1]]
        strip = replace(self, down=down)
        return strip, strip.tour()

    def corners_of(self, tour: _Tour) -> np.ndarray:
        """N x 2 (x, y), two of each edge."""
        upper = self.is_upper[tour.edges, None]
        corners = 2 * tour.edges[:, None] + np.where(upper, (0, 1), (1, 0))
        rows, columns = np.divmod(self.keys[corners.ravel()] >> 1, self.width)
        return np.stack([columns, rows], axis=1)

    def parts(self, tour: _Tour) -> list[int]:
        """For each ring the exterior of its part. Above the first edge of a hole is the mask, and
        above that is an edge of an earlier ring of the same part."""
        (holes,) = (~self.is_upper[tour.firsts]).nonzero()
        rows, columns = np.divmod(self.keys[2 * tour.firsts[holes]] >> 1, self.width)
        above = self.edges[np.searchsorted(self.edges, columns * self.stride + rows) - 1]
        columns, rows = np.divmod(above, self.stride)
        corners = np.searchsorted(self.keys, (rows * self.width + columns) * 2 + 1, side="right")
        ring = np.empty(len(self.is_upper), int)
        ring[tour.edges] = tour.ring
        part = list(range(len(tour.firsts)))
        for hole, earlier in zip(holes.tolist(), ring[(corners - 1) >> 1].tolist(), strict=True):
            part[hole] = part[earlier]
        return part


def _cycles(following: list[int], is_upper: list[bool]) -> tuple[list[int], list[int], list[int]]:
    """Edges ring by ring, how many each ring has, and its first one in the order of numbers: an
    exterior begins with it, a hole ends with it. `following` is used up."""
    edges: list[int] = []
    counts, firsts = [], []
    for first, second in enumerate(following):
        if second < 0:
            continue
        before = len(edges)
        edge = first if is_upper[first] else second
        while (after := following[edge]) >= 0:
            edges.append(edge)
            following[edge], edge = -1, after
        counts.append(len(edges) - before)
        firsts.append(first)
    return edges, counts, firsts
