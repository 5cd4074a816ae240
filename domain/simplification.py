"""Outlines of pixels with fewer corners, which remain outlines: none crosses itself or another one,
none changes sides, none vanishes.

A corner is (x, y), a ring an N x 2 array of corners, not closed. A chord goes from one corner that
is kept to the next; an exact one leaves out none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_PAIRS_AT_ONCE = 1 << 20


def simplified(rings: Sequence[np.ndarray], tolerance: float) -> list[np.ndarray]:
    """The rings of one mask without corners that lie no more than `tolerance` from their chord.

    `rings` are int32; none comes by a place twice, and two may touch where both have a corner.
    Exteriors have their inside to the right of their way, as y points down, holes to the left.

    What OpenCV makes of a ring is taken for a beginning. Then, as of Ramer, Douglas and Peucker,
    the corner farthest from a chord comes back where the chord is too far off or in the way.
    """
    kept = _Kept.roughly(rings, tolerance)
    while True:
        chords = kept.chords()
        wrong = chords.away > tolerance * tolerance
        if not wrong.any():
            wrong = chords.in_the_way() | kept.is_spoiled(chords.lines)[chords.lines.ring]
        wrong &= ~chords.exact
        if not wrong.any():
            return kept.rings()
        kept.is_kept[chords.farthest[wrong]] = True


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """The sides of rings, from `starts` to `ends`, N x 2, ring by ring. `following`: the place of
    the next one of the same ring."""

    starts: np.ndarray
    ends: np.ndarray
    ring: np.ndarray
    following: np.ndarray

    @classmethod
    def between(cls, corners: np.ndarray, ring: np.ndarray) -> "_Lines":
        (lasts,) = np.append(ring[1:] != ring[:-1], True).nonzero()
        following = np.arange(1, len(ring) + 1)
        following[lasts] = np.append(0, lasts[:-1] + 1)
        return cls(corners, corners[following], ring, following)

    def areas(self) -> np.ndarray:
        """Of each ring twice, by the shoelace formula; positive where it goes clockwise, as y
        points down."""
        return np.bincount(self.ring, _cross(self.starts, self.ends))

    def nestings(self) -> np.ndarray:
        """All pairs of a ring and another one that it lies in, each as a number: the first one's
        times the count of rings, plus the other's.

        As rings touch at corners only, the middle of a ring's first line decides: it lies in those
        that have an odd number of lines to its left.
        """
        (firsts,) = np.append(True, self.ring[1:] != self.ring[:-1]).nonzero()
        middles = (self.starts[firsts] + self.ends[firsts]) / 2
        ys = self.starts[:, 1], self.ends[:, 1]
        line, row = _spread(np.minimum(*ys), np.maximum(*ys))
        by_row = row.argsort(kind="stable")
        line, row, rows = line[by_row], row[by_row], np.floor(middles[:, 1])
        low, high = (np.searchsorted(row, rows, side=side) for side in ("left", "right"))
        found = [np.empty(0, np.int64)]
        batches = 1 + (high - low).sum() // _PAIRS_AT_ONCE
        for some in np.array_split(np.arange(len(firsts)), batches):
            own, place = _spread(low[some], high[some])
            found.append(self._insides(some[own], middles[some[own]], line[place], len(firsts)))
        return np.concatenate(found)

    def _insides(
        self, own: np.ndarray, middles: np.ndarray, line: np.ndarray, rings: int
    ) -> np.ndarray:
        (width, height), (x, y) = (self.ends[line] - self.starts[line]).T, self.starts[line].T
        counts = x + (middles[:, 1] - y) / height * width < middles[:, 0]
        counts &= self.ring[line] != own
        pairs, times = np.unique((own * rings + self.ring[line])[counts], return_counts=True)
        return np.compress(times % 2 == 1, pairs)


@dataclass(frozen=True, slots=True, eq=False)
class _Chords:
    """`farthest`: the place of the corner farthest off each, `away` its squared distance."""

    lines: _Lines
    exact: np.ndarray
    farthest: np.ndarray
    away: np.ndarray

    def in_the_way(self) -> np.ndarray:
        """Those that cross or touch others. Exact ones may touch each other."""
        found = np.zeros(len(self.exact), bool)
        one, other = _close(self.lines.starts, self.lines.ends)
        inexact = ~(self.exact[one] & self.exact[other])
        one, other = one[inexact], other[inexact]
        met = _meet(self.lines, one, other)
        found[one[met]] = found[other[met]] = True
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """All corners, ring by ring; the first of each ring is kept. `areas` and `nestings` are those
    of the exact rings."""

    corners: np.ndarray
    ring: np.ndarray
    is_kept: np.ndarray
    areas: np.ndarray
    nestings: np.ndarray

    @classmethod
    def roughly(cls, rings: Sequence[np.ndarray], tolerance: float) -> "_Kept":
        turned, kept = zip(*(_roughly(ring, tolerance) for ring in rings), strict=True)
        corners = np.concatenate(turned).astype(np.int64)
        ring = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
        edges = _Lines.between(corners, ring)
        return cls(corners, ring, np.concatenate(kept), edges.areas(), edges.nestings())

    def rings(self) -> list[np.ndarray]:
        firsts = np.flatnonzero(np.diff(self.ring[self.is_kept])) + 1
        return np.split(self.corners[self.is_kept], firsts)

    def chords(self) -> _Chords:
        (places,) = self.is_kept.nonzero()
        lines = _Lines.between(self.corners[places], self.ring[places])
        chord = np.cumsum(self.is_kept) - 1
        away = _squared_distances(self.corners, lines.starts[chord], lines.ends[chord])
        most = np.maximum.reduceat(away, places)
        (candidates,) = (away == most[chord]).nonzero()
        farthest = np.empty_like(places)
        farthest[chord[candidates]] = candidates
        exact = np.diff(places, append=len(self.corners)) == 1
        return _Chords(lines, exact, farthest, most)

    def is_spoiled(self, lines: _Lines) -> np.ndarray:
        """For each ring whether it lost half of its area, or has changed sides with another."""
        spoiled: np.ndarray = 2 * lines.areas() * np.sign(self.areas) <= np.abs(self.areas)
        changed = np.setxor1d(self.nestings, lines.nestings())
        spoiled[changed // len(spoiled)] = spoiled[changed % len(spoiled)] = True
        return spoiled


def _roughly(ring: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """The ring, turned so that its first corner is kept, and which of its corners are."""
    simple = cv2.approxPolyDP(ring, tolerance, closed=True)[:, 0]
    kept = np.isin(_keys(ring), _keys(simple))
    first = int(kept.argmax())
    return np.roll(ring, -first, axis=0), np.roll(kept, -first)


def _keys(corners: np.ndarray) -> np.ndarray:
    keys: np.ndarray = corners[:, 0].astype(np.int64) << 32 | corners[:, 1]
    return keys


def _cross(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    product: np.ndarray = one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]
    return product


def _squared_distances(points: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Of each point from its line between start and end."""
    (x, y), (width, height) = (points - starts).T, (ends - starts).T
    length = np.maximum(width * width + height * height, 1)
    share = np.clip((x * width + y * height) / length, 0, 1)
    squared: np.ndarray = (x - share * width) ** 2 + (y - share * height) ** 2
    return squared


def _spread(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a place n and a whole number from low[n] to before high[n]."""
    counts = high - low
    places = np.repeat(np.arange(len(counts)), counts)
    numbers = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts - low, counts)
    return places, numbers


def _close(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of lines that come near each other, among them all that meet, by their places: those
    that overlap in a row of pixels, where they cross it or end above it."""
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    line, row = _spread(low[:, 1], high[:, 1] + 1)
    left, right = _reach(starts[line], ends[line], row)
    first, last = row * (right.max() + 1) + (left, right)
    order = first.argsort(kind="stable")
    line, first, last = line[order], first[order], last[order]
    past = np.searchsorted(first, last, side="right")
    one, other = _spread(np.arange(1, len(past) + 1), past)
    return line[one], line[other]


def _reach(starts: np.ndarray, ends: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From where to where, in whole numbers, each line goes in its row."""
    (width, height), flat = (ends - starts).T, starts[:, 1] == ends[:, 1]
    shares = np.clip((np.stack([row, row + 1]) - starts[:, 1]) / np.where(flat, 1, height), 0, 1)
    shares[:, flat] = [[0], [1]]
    at = starts[:, 0] + shares * width
    return np.floor(at.min(axis=0)).astype(np.int64), np.ceil(at.max(axis=0)).astype(np.int64)


def _meet(lines: _Lines, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether lines that are close to each other cross or touch, other than where one goes on from
    the other. If it goes back, it meets the line before that one, or the ring has no area."""
    start, other_start = lines.starts[one], lines.starts[other]
    way, other_way = lines.ends[one] - start, lines.ends[other] - other_start
    between = other_start - start
    apart = _on_one_side(way, between, between + other_way)
    apart |= _on_one_side(other_way, -between, way - between)
    neighbours = (lines.following[one] == other) | (lines.following[other] == one)
    meet: np.ndarray = ~(apart | neighbours)
    return meet


def _on_one_side(way: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether both lie on the same side of a line in this direction, and not on it."""
    both: np.ndarray = np.sign(_cross(way, one)) * np.sign(_cross(way, other)) > 0
    return both
