"""Masks of earlier clicks, kept so that further clicks refine them."""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from domain.interactive import ObjectAsked
from storage.lane import Shelf
from workers.interactive.segmenter import SeenImage

_MOST_POINTS = 40  # of a prompt whose mask is kept; the prompt is part of its name

Points = set[tuple[float, float, bool]]


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What the mask of this `name` answered."""

    name: str
    points: Points
    box: list[float] | None


@dataclass(frozen=True)
class EarlierMasks:
    """Kept by owner, pixels of the image, and prompt: points in any order, and the box."""

    kept: Shelf

    def save(self, owner: str, image: SeenImage, prompt: ObjectAsked, logits: np.ndarray) -> None:
        """`logits` is h x w float32."""
        if len(prompt.points) > _MOST_POINTS:
            return
        height, width = logits.shape
        self.kept.put(
            owner,
            _name(image, prompt),
            mark=f"{height}x{width}",
            data=logits.astype("<f4").tobytes(),
        )

    def of(self, owner: str, image: SeenImage) -> "MasksOfImage":
        return MasksOfImage(self.kept, owner, image)


@dataclass(frozen=True)
class MasksOfImage:
    """For the prompts of one request: names are read, and each mask is fetched, once at most."""

    kept: Shelf
    owner: str
    image: SeenImage

    def fitting(self, prompt: ObjectAsked) -> np.ndarray | None:
        """The mask, h x w float32, of the prompt with the same box and most of this one's points,
        but not all of them. None for a prompt of fewer than two points, and where nothing fits."""
        wanted, box = _points(prompt), _box(prompt)
        if len(prompt.points) < 2:
            return None
        for earlier in self._prompts:
            if earlier.box == box and earlier.points < wanted:
                logits = self._logits(earlier.name)
                if logits is not None:
                    return logits
        return None

    @cached_property
    def _prompts(self) -> list[_Prompt]:
        """Most points first."""
        found = [
            _described(name)
            for name in self.kept.names(self.owner)
            if name.startswith(f"{self.image.pixels_sha1}:")
        ]
        return sorted(found, key=lambda earlier: (len(earlier.points), earlier.name), reverse=True)

    @cached_property
    def _fetched(self) -> dict[str, np.ndarray | None]:
        return {}

    def _logits(self, name: str) -> np.ndarray | None:
        if name not in self._fetched:
            self._fetched[name] = self._fetch(name)
        return self._fetched[name]

    def _fetch(self, name: str) -> np.ndarray | None:
        kept = self.kept.get(self.owner, name)
        if kept is None:
            return None
        height, width = map(int, kept.mark.split("x"))
        return np.frombuffer(kept.data, "<f4").reshape(height, width).copy()


def _name(image: SeenImage, prompt: ObjectAsked) -> str:
    return f"{image.pixels_sha1}:{json.dumps([sorted(_points(prompt)), _box(prompt)])}"


def _described(name: str) -> _Prompt:
    _, _, described = name.partition(":")
    points, box = json.loads(described)
    return _Prompt(name, {(x, y, positive) for x, y, positive in points}, box)


def _points(prompt: ObjectAsked) -> Points:
    return {(point.x, point.y, point.positive) for point in prompt.points}


def _box(prompt: ObjectAsked) -> list[float] | None:
    return None if prompt.box is None else list(prompt.box)
