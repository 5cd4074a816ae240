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

    def __init__(self) -> None:
        self._count = 0
        self._first: list[str] = []

    def add(self, name: str) -> None:
        self._count += 1
        if len(self._first) < _FIRST:
            self._first.append(name)

    def listed(self) -> Listed:
        return Listed(count=self._count, first=self._first)


@dataclass(slots=True)
class _Claim:
    """The job's image that fits one of the truth best so far; `tied` if others do as well."""

    number: int
    name: str
    fit: Fit
    same_size: bool
    tied: bool = False


@dataclass(frozen=True, slots=True)
class Pairs:
    """`numbers`, rising, and `names` are the job's; `places` count the truth's images."""

    numbers: np.ndarray
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

    def claim(self, number: int, image: ShownImage) -> TruthImage | None:
        """The truth to compare the image with, if any; `number` counts the job's images."""
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
        claim = _Claim(number, image.image, fit, same_size)
        return truth if self._best(claim) and same_size else None

    def _best(self, claim: _Claim) -> bool:
        """Whether it is the best and only one so far."""
        other = self._claims.setdefault(claim.fit.place, claim)
        if other is claim:
            return True
        if other.fit.parts == claim.fit.parts:
            self._tie(other)
            self._ambiguous.add(claim.name)
            return False
        if other.fit.parts > claim.fit.parts:
            self._not_in_truth.add(claim.name)
            return False
        if not other.tied:
            self._not_in_truth.add(other.name)
        self._claims[claim.fit.place] = claim
        return True

    def _tie(self, claim: _Claim) -> None:
        if not claim.tied:
            claim.tied = True
            self._ambiguous.add(claim.name)

    def pairs(self) -> Pairs:
        """In the job's order."""
        claims = sorted(
            (one for one in self._claims.values() if one.same_size and not one.tied),
            key=lambda one: one.number,
        )
        return Pairs(
            np.array([one.number for one in claims], np.int64),
            [one.name for one in claims],
            [one.fit.place for one in claims],
        )

    def images(self, failed: Iterable[str]) -> EvaluatedImages:
        """`failed` are the names of the job's images that have no result."""
        evaluated = 0
        by_end, sizes_differ, has_failed, not_in_job = _Names(), _Names(), _Names(), _Names()
        failed_places = self._places(failed)
        for place, image in enumerate(self._truth):
            claim = self._claims.get(place)
            if claim is not None and not claim.tied:
                if not claim.same_size:
                    sizes_differ.add(image.name)
                    continue
                evaluated += 1
                if not claim.fit.is_equal:
                    by_end.add(f"{claim.name} = {image.name}")
            elif place in failed_places:
                has_failed.add(image.name)
            else:
                not_in_job.add(image.name)
        return EvaluatedImages(
            evaluated=evaluated,
            by_end_of_path=by_end.listed(),
            sizes_differ=sizes_differ.listed(),
            failed=has_failed.listed(),
            not_in_job=not_in_job.listed(),
            ambiguous=self._ambiguous.listed(),
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
