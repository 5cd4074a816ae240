"""Which image of the truth an image of the job is: the same file under another folder, perhaps.

By equal names, else by the longest common end of the two paths, of whole parts. Neither side may
have two that fit equally well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SEVERAL = -1
_MAX_PARTS = 32  # of a path that are compared
_EQUAL = _MAX_PARTS + 1


@dataclass(frozen=True, slots=True)
class Fit:
    """`place` counts the truth's images; `parts` are those in common."""

    place: int
    parts: int

    @property
    def is_equal(self) -> bool:
        return self.parts == _EQUAL


class AmbiguousName(Exception):
    """Several of the truth's images have the longest common end."""


class ImageNames:
    """The names of the truth's images."""

    def __init__(self, names: Sequence[str]) -> None:
        self._equal = {name: place for place, name in enumerate(names)}
        self._ends: dict[str, int] = {}
        for place, name in enumerate(names):
            for end in _ends(name):
                self._ends[end] = _SEVERAL if end in self._ends else place

    def fit(self, name: str) -> Fit | None:
        """Raise AmbiguousName."""
        if name in self._equal:
            return Fit(self._equal[name], _EQUAL)
        for end in _ends(name):
            place = self._ends.get(end)
            if place == _SEVERAL:
                raise AmbiguousName(name)
            if place is not None:
                return Fit(place, end.count("/") + 1)
        return None


def _ends(name: str) -> Iterator[str]:
    """Of whole parts, the longest first."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return ("/".join(parts[first:]) for first in range(max(0, len(parts) - _MAX_PARTS), len(parts)))
