"""Outlines of pixels with fewer corners, which remain outlines: none crosses itself or another one,
none changes sides, none vanishes.

A corner is (x, y), a ring an N x 2 array of corners, not closed. A chord goes from one corner that
is kept to the next; an exact one leaves out none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from domain.rle import spread

_PAIRS_AT_ONCE = 1 << 20


def kept_corners(
    corners: np.ndarray, ring: np.ndarray, group: np.ndarray, *, tolerance: float
) -> np.ndarray:
    """The places of the corners, ring by ring, that rings have without those that lie no more than
    `tolerance` from their chord.

    `corners` are N x 2 whole numbers, `ring` is the number of each one's ring, from 0 on without a
    gap, `group` a number for each ring: those of different groups lie apart. No ring comes by a
    place twice, and two may touch where both have a corner. Exteriors have their inside to the
    right of their way, as y points down, holes to the left.

    What OpenCV makes of a ring is taken for a beginning. Then, as of Ramer, Douglas and Peucker,
    the corner farthest from a chord comes back where the chord is too far off or in the way.
    """
    kept = _Kept.roughly(corners, ring, group, tolerance)
    unsure = np.ones(len(group), bool)
    kept.halve_far(kept.chords(unsure))
    while True:
        wrong = kept.wrong(unsure)
        if not len(wrong.starts):
            return np.compress(kept.is_kept, kept.places)
        kept.halve_far(kept.halves(wrong))
        unsure = np.isin(group, group[ring[kept.places[wrong.starts]]])


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

    def areas(self, rings: int) -> np.ndarray:
        """Of each ring twice, by the shoelace formula; positive where it goes clockwise, as y
        points down."""
        return np.bincount(self.ring, _cross(self.starts, self.ends), rings)

    def nestings(self, group: np.ndarray) -> np.ndarray:
        """All pairs of a ring and another one of its group that it lies in, each as a number: the
        first one's times the count of rings, plus the other's.

        As rings touch at corners only, the middle of a ring's first line decides: it lies in those
        that have an odd number of lines to its left.
        """
        (some,) = (np.bincount(group)[group] > 1)[self.ring].nonzero()
        first = _firsts(self.ring[some])
        firsts = some[first]
        top = group[self.ring[some]] * (1 + self.starts[:, 1].max())  # groups below each other
        rows = (self.starts[firsts, 1] + self.ends[firsts, 1]) // 2 + top[first]
        by_row = rows.argsort()
        low, high = np.sort([self.starts[some, 1], self.ends[some, 1]], axis=0) + top
        batches = (
            1 + np.subtract(*np.searchsorted(rows[by_row], (high, low))).sum() // _PAIRS_AT_ONCE
        )
        found = [np.empty(0, np.int64)]
        for part in np.array_split(by_row, batches):
            line, place = spread(*np.searchsorted(rows[part], (low, high)))
            found.append(self._on_the_left(firsts[part[place]], some[line], len(group)))
        return np.concatenate(found)

    def _on_the_left(self, own: np.ndarray, other: np.ndarray, rings: int) -> np.ndarray:
        """Pairs of rings, as numbers: that of lines `own` and another that has an odd number of the
        lines `other` on the left of their middles."""
        (width, height), (x, y) = (self.ends[other] - self.starts[other]).T, self.starts[other].T
        middle_x, middle_y = ((self.starts[own] + self.ends[own]) / 2).T
        counts = x + (middle_y - y) / height * width < middle_x
        counts &= self.ring[other] != self.ring[own]
        numbers = self.ring[own] * rings + self.ring[other]
        pairs, times = np.unique(numbers[counts], return_counts=True)
        return np.compress(times % 2 == 1, pairs)


@dataclass(frozen=True, slots=True, eq=False)
class _Chords:
    """By places of corners: from where each goes, the one past the last that it leaves out, and to
    where."""

    starts: np.ndarray
    pasts: np.ndarray
    ends: np.ndarray

    def chosen(self, which: np.ndarray) -> "_Chords":
        return _Chords(self.starts[which], self.pasts[which], self.ends[which])

    def is_exact(self) -> np.ndarray:
        exact: np.ndarray = self.pasts - self.starts == 1
        return exact


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """All corners, ring by ring, and their places before rings were turned so that the first of
    each is kept. `pasts` are the places past each ring, `areas` and `nestings` those of the exact
    rings, `group` is that of each ring. `limit`: the tolerance, squared.
    """

    corners: np.ndarray
    ring: np.ndarray
    places: np.ndarray
    is_kept: np.ndarray
    pasts: np.ndarray
    areas: np.ndarray
    nestings: np.ndarray
    group: np.ndarray
    limit: float

    @classmethod
    def roughly(
        cls, corners: np.ndarray, ring: np.ndarray, group: np.ndarray, tolerance: float
    ) -> "_Kept":
        starts = _firsts(ring)
        pasts = np.append(starts[1:], len(ring))
        exact, bounds = corners.astype(np.int32), zip(starts.tolist(), pasts.tolist(), strict=True)
        simple = [cv2.approxPolyDP(exact[a:b], tolerance, closed=True)[:, 0] for a, b in bounds]
        is_kept = _is_among(corners, ring, simple)
        places = _turned(ring, starts, is_kept)
        edges = _Lines.between(corners[places], ring)
        return cls(
            edges.starts,
            ring,
            places,
            is_kept[places],
            pasts,
            edges.areas(len(group)),
            edges.nestings(group),
            group,
            tolerance * tolerance,
        )

    def chords(self, rings: np.ndarray) -> _Chords:
        """Those of some rings: `rings` says which."""
        (starts,) = (self.is_kept & rings[self.ring]).nonzero()
        ring = self.ring[starts]
        lasts = np.append(ring[1:] != ring[:-1], True)
        ends, pasts = np.append(starts[1:], 0), np.append(starts[1:], 0)
        pasts[lasts] = self.pasts[ring[lasts]]
        ends[lasts] = starts[_firsts(ring)]
        return _Chords(starts, pasts, ends)

    def halve_far(self, chords: _Chords) -> None:
        """Until no corner is too far off."""
        while len(chords.starts):
            chords = self.halves(chords, beyond=self.limit)

    def halves(self, chords: _Chords, *, beyond: float = -1) -> _Chords:
        """What becomes of chords as the corner farthest from each comes back, if its squared
        distance is more than `beyond`."""
        chords = chords.chosen(~chords.is_exact())
        chord, place = spread(chords.starts + 1, chords.pasts)
        starts, ends = self.corners[chords.starts], self.corners[chords.ends]
        away = _squared_distances(self.corners[place], starts[chord], ends[chord])
        most = np.maximum.reduceat(away, np.searchsorted(chord, np.arange(len(starts))))
        (candidates,) = (away == most[chord]).nonzero()
        middles = np.empty_like(chords.starts)
        middles[chord[candidates]] = place[candidates]
        chords, middles = chords.chosen(most > beyond), middles[most > beyond]
        self.is_kept[middles] = True
        return _Chords(
            np.append(chords.starts, middles),
            np.append(middles, chords.pasts),
            np.append(middles, chords.ends),
        )

    def wrong(self, rings: np.ndarray) -> _Chords:
        """Of some rings the chords that are in the way or spoil a ring, but for exact ones."""
        chords = self.chords(rings)
        exact = chords.is_exact()
        lines = _Lines.between(self.corners[chords.starts], self.ring[chords.starts])
        wrong = _in_the_way(lines, exact) | self._is_spoiled(lines, rings)[lines.ring]
        return chords.chosen(wrong & ~exact)

    def _is_spoiled(self, lines: _Lines, rings: np.ndarray) -> np.ndarray:
        """For each of some rings whether it lost half of its area, or has changed sides with
        another."""
        areas = lines.areas(len(rings))
        spoiled: np.ndarray = 2 * areas * np.sign(self.areas) <= np.abs(self.areas)
        before = self.nestings[rings[self.nestings // len(rings)]]
        changed = np.setxor1d(before, lines.nestings(self.group))
        spoiled[changed // len(rings)] = spoiled[changed % len(rings)] = True
        return spoiled


def _firsts(ring: np.ndarray) -> np.ndarray:
    (firsts,) = np.append(ring[:1] >= 0, ring[1:] != ring[:-1]).nonzero()
    return firsts


def _is_among(corners: np.ndarray, ring: np.ndarray, chosen: Sequence[np.ndarray]) -> np.ndarray:
    """Whether each corner is among those chosen of its ring."""
    width, height = corners.max(axis=0) + 1
    chosen_ring = np.repeat(np.arange(len(chosen)), [len(some) for some in chosen])
    keys, chosen_keys = (
        (number * height + y) * width + x
        for number, (x, y) in ((ring, corners.T), (chosen_ring, np.concatenate(chosen).T))
    )
    found: np.ndarray = np.isin(keys, chosen_keys, assume_unique=True)  # of equal chosen ones too
    return found


def _turned(ring: np.ndarray, starts: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The places of all corners, each ring from the first one on that is kept."""
    (places,) = kept.nonzero()
    begins = places[np.searchsorted(places, starts)] - starts
    counts = np.diff(starts, append=len(ring))
    start = starts[ring]
    turned: np.ndarray = start + (np.arange(len(ring)) - start + begins[ring]) % counts[ring]
    return turned


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


def _close(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of lines that come near each other, among them all that meet, by their places: those
    that overlap in a row of pixels, where they cross it or end above it."""
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    line, row = spread(low[:, 1], high[:, 1] + 1)
    left, right = _reach(starts[line], ends[line], row)
    first, last = row * (right.max() + 1) + (left, right)
    order = first.argsort(kind="stable")
    line, first, last = line[order], first[order], last[order]
    past = np.searchsorted(first, last, side="right")
    one, other = spread(np.arange(1, len(past) + 1), past)
    return line[one], line[other]


def _reach(starts: np.ndarray, ends: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From where to where, in whole numbers, each line goes in its row."""
    (width, height), flat = (ends - starts).T, starts[:, 1] == ends[:, 1]
    shares = np.clip((np.stack([row, row + 1]) - starts[:, 1]) / np.where(flat, 1, height), 0, 1)
    shares[:, flat] = [[0], [1]]
    at = starts[:, 0] + shares * width
    return np.floor(at.min(axis=0)).astype(np.int64), np.ceil(at.max(axis=0)).astype(np.int64)


def _in_the_way(lines: _Lines, exact: np.ndarray) -> np.ndarray:
    """Those that cross or touch others. Exact ones may touch each other."""
    found = np.zeros(len(exact), bool)
    one, other = _close(lines.starts, lines.ends)
    inexact = ~(exact[one] & exact[other])
    one, other = one[inexact], other[inexact]
    met = _meet(lines, one, other)
    found[one[met]] = found[other[met]] = True
    return found


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
