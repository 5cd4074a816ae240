"""Masks of earlier clicks, kept so that further clicks refine them."""

import json
from dataclasses import dataclass

import numpy as np

from domain.interactive import ObjectAsked
from storage.lane import Shelf
from workers.interactive.segmenter import SeenImage

_MOST_POINTS = 40  # of a prompt whose mask is kept; the prompt is part of its name


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

    def load(self, owner: str, image: SeenImage, prompt: ObjectAsked) -> np.ndarray | None:
        """The mask of the prompt with the same box and most of this one's points, but not all of
        them. None for a prompt of fewer than two points, and where nothing fits."""
        if len(prompt.points) < 2:
            return None
        for name in self._fitting(owner, image, prompt):
            kept = self.kept.get(owner, name)
            if kept is not None:
                height, width = map(int, kept.mark.split("x"))
                return np.frombuffer(kept.data, "<f4").reshape(height, width).copy()
        return None

    def _fitting(self, owner: str, image: SeenImage, prompt: ObjectAsked) -> list[str]:
        """Names, most points first."""
        wanted = _points(prompt)
        found: list[tuple[int, str]] = []
        for name in self.kept.names(owner):
            pixels, _, described = name.partition(":")
            if pixels == image.pixels_sha1:
                points, box = _described(described)
                if box == _box(prompt) and points < wanted:
                    found.append((len(points), name))
        return [name for _, name in sorted(found, reverse=True)]


def _name(image: SeenImage, prompt: ObjectAsked) -> str:
    return f"{image.pixels_sha1}:{json.dumps([sorted(_points(prompt)), _box(prompt)])}"


def _described(prompt: str) -> tuple[set[tuple[float, float, bool]], list[float] | None]:
    points, box = json.loads(prompt)
    return {(x, y, positive) for x, y, positive in points}, box


def _points(prompt: ObjectAsked) -> set[tuple[float, float, bool]]:
    return {(point.x, point.y, point.positive) for point in prompt.points}


def _box(prompt: ObjectAsked) -> list[float] | None:
    return None if prompt.box is None else list(prompt.box)
