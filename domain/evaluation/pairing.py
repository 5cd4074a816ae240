"""Which images of the job are compared with which of the truth, found while they come by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from domain.evaluation.documents import EvaluatedImages, Listed
from domain.evaluation.image_names import AmbiguousName, Fit, ImageNames
from domain.evaluation.truth import Truth, TruthImage
from domain.exports import ShownImage

_FIRST = 10  # names that a report gives


class _Names:
    """Counts names and keeps the first."""

    __slots__ = ("_first", "count")

    def __init__(self, *first: str) -> None:
        self.count = len(first)
        self._first = list(first)

    def add(self, name: str) -> None:
        self.extend(_Names(name))

    def extend(self, other: "_Names") -> None:
        self.count += other.count
        self._first += other._first[: _FIRST - len(self._first)]

    @property
    def only(self) -> str:
        (name,) = self._first
        return name

    def listed(self) -> Listed:
        return Listed(count=self.count, first=self._first)


@dataclass(frozen=True, slots=True)
class _Claim:
    """The job's image that fits one of the truth best so far, the first of them; `names` are those
    that fit as well, too."""

    image_index: int
    names: _Names
    fit: Fit
    same_size: bool

    @property
    def is_ambiguous(self) -> bool:
        return self.names.count > 1


@dataclass(frozen=True, slots=True)
class Pairs:
    """`indexes`, rising, and `names` are the job's; `places` count the truth's images."""

    indexes: np.ndarray
    names: Sequence[str]
    places: Sequence[int]


class Pairing:
    """An image of the job is compared when it comes by. A later one may fit the truth's image
    better, or as well: then what was compared does not count."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth.images
        self._names = ImageNames([image.name for image in truth.images])
        self._claims: dict[int, _Claim] = {}
        self._ambiguous, self._not_in_truth = _Names(), _Names()

    def claim(self, image: ShownImage) -> TruthImage | None:
        """The truth to compare the image with, if any."""
        try:
            fit = self._names.fit(image.image)
        except AmbiguousName:
            self._ambiguous.add(image.image)
            return None
        if fit is None:
            self._not_in_truth.add(image.image)
            return None
        truth = self._truth[fit.place]
        same_size = (truth.width, truth.height) == (image.width, image.height)
        claim = _Claim(image.image_index, _Names(image.image), fit, same_size)
        return truth if self._is_best(claim) and same_size else None

    def _is_best(self, claim: _Claim) -> bool:
        """Whether it is the best so far, and the first of these."""
        best = self._claims.get(claim.fit.place)
        if best is None or best.fit.parts < claim.fit.parts:
            self._claims[claim.fit.place] = claim
            if best is not None:
                self._not_in_truth.extend(best.names)
            return True
        worse = best.fit.parts > claim.fit.parts
        (self._not_in_truth if worse else best.names).extend(claim.names)
        return False

    def pairs(self) -> Pairs:
        """In the job's order."""
        claims = sorted(
            (one for one in self._claims.values() if one.same_size and not one.is_ambiguous),
            key=lambda one: one.image_index,
        )
        return Pairs(
            np.array([one.image_index for one in claims], np.int64),
            [one.names.only for one in claims],
            [one.fit.place for one in claims],
        )

    def images(self, failed: Iterable[str]) -> EvaluatedImages:
        """`failed` are the names of the job's images that have no result."""
        evaluated, by_end, sizes_differ = _Names(), _Names(), _Names()
        has_failed, not_in_job, ambiguous = _Names(), _Names(), _Names()
        ambiguous.extend(self._ambiguous)
        failed_places = self._places(failed)
        for place, image in enumerate(self._truth):
            claim = self._claims.get(place)
            if claim is None or claim.is_ambiguous:
                (has_failed if place in failed_places else not_in_job).add(image.name)
                ambiguous.extend(_Names() if claim is None else claim.names)
            elif claim.same_size:
                evaluated.add(image.name)
                if not claim.fit.is_equal:
                    by_end.add(f"{claim.names.only} = {image.name}")
            else:
                sizes_differ.add(image.name)
        return EvaluatedImages(
            evaluated=evaluated.count,
            by_end_of_path=by_end.listed(),
            sizes_differ=sizes_differ.listed(),
            failed=has_failed.listed(),
            not_in_job=not_in_job.listed(),
            ambiguous=ambiguous.listed(),
            not_in_truth=self._not_in_truth.listed(),
        )

    def _places(self, names: Iterable[str]) -> set[int]:
        return {place for name in names if (place := self._place(name)) is not None}

    def _place(self, name: str) -> int | None:
        try:
            fit = self._names.fit(name)
        except AmbiguousName:
            return None
        return None if fit is None else fit.place
