"""Images by what was found in them: orders that no index of PostgreSQL has.

What a part says of its images is read once and kept in a few bytes an image. Parts do not change.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from api.images.schemas import Sort
from api.results.stored import stored_part
from domain.results import iter_images, score_ranges
from storage.object_store import ObjectStore
from storage.slices import Slice

SORTED_IMAGES = 100_000  # of a job, from its first
MAX_SLICES = 20_000  # as many, where they are small
_KEPT_IMAGES = 2_000_000  # of all jobs together: 24 bytes each

_FIGURES = np.dtype(
    [("image_index", "i8"), ("instances", "i4"), ("failed", "?"), ("low", "f4"), ("high", "f4")]
)
_SCORES = {Sort.LOWEST, Sort.HIGHEST}
_NO_SCORE, _FAILED = 1e9, 2e9  # come last

Figures = np.ndarray  # of _FIGURES, a row for each image of a part


@dataclass(frozen=True, slots=True)
class Ranked:
    """An image's place: it comes after those with a lower `value`, and lower numbers with it."""

    value: float
    image_index: int
    part: Slice


@dataclass
class Rankings:
    """Of one process. Thread safe."""

    _kept: "OrderedDict[tuple[str, bool], dict[str, Figures]]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ranked(
        self,
        job_id: str,
        parts: Sequence[Slice],
        store: ObjectStore,
        *,
        sort: Sort,
        after: tuple[float, int] | int,
        limit: int,
    ) -> tuple[list[Ranked], int]:
        """The images after a value and number, or from a place on, and how many there are in all.
        Raises `StoreError`s and a problem for a damaged result."""
        figures = self._figures(job_id, parts, store, with_scores=sort in _SCORES)
        rows = np.concatenate([np.empty(0, _FIGURES), *figures])
        owners = np.repeat(np.arange(len(parts)), [len(part) for part in figures])
        is_first = rows["image_index"] < SORTED_IMAGES
        rows, owners = rows[is_first], owners[is_first]
        values, numbers = _values(rows, sort), rows["image_index"]
        order = np.lexsort((numbers, values))
        if isinstance(after, int):
            order = order[after:]
        else:
            value, number = after
            is_later = (values > value) | ((values == value) & (numbers > number))
            order = order[is_later[order]]
        found = [
            Ranked(float(values[row]), int(numbers[row]), parts[owners[row]])
            for row in order[:limit]
        ]
        return found, len(rows)

    def _figures(
        self, job_id: str, parts: Sequence[Slice], store: ObjectStore, *, with_scores: bool
    ) -> list[Figures]:
        key = (job_id, with_scores)
        with self._lock:
            known = self._kept.get(key, {})
        found = {
            part.images_key: known[part.images_key]
            if part.images_key in known
            else _read(part, store, with_scores=with_scores)
            for part in parts
        }
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self._size() > _KEPT_IMAGES:
                self._kept.popitem(last=False)
        return list(found.values())

    def _size(self) -> int:
        return sum(len(part) for parts in self._kept.values() for part in parts.values())


def _read(part: Slice, store: ObjectStore, *, with_scores: bool) -> Figures:
    with stored_part(store, part.parts["images"]) as file:
        rows = [(row.image_index, row.instances, not row.succeeded) for row in iter_images(file)]
    scores: dict[int, tuple[float, float]] = {}
    if with_scores and part.parts["annotations"]["rows"]:
        with stored_part(store, part.parts["annotations"]) as file:
            scores = score_ranges(file)
    none = (_NO_SCORE, -_NO_SCORE)
    return np.array([(*row, *scores.get(row[0], none)) for row in rows], _FIGURES)


def _values(rows: Figures, sort: Sort) -> "np.ndarray":
    """What the order goes by, lowest first."""
    if sort is Sort.FAILED:
        return np.where(rows["failed"], 0.0, 1.0)
    values = {
        Sort.MOST: -rows["instances"].astype(float),
        Sort.FEWEST: rows["instances"].astype(float),
        Sort.LOWEST: rows["low"].astype(float),
        Sort.HIGHEST: -rows["high"].astype(float),
    }[sort]
    return np.where(rows["failed"], _FAILED, values)
