"""Boxes and clicks from pixels of the oriented image to what the network reads.

Of a job's prompts, what lies outside the image is cut away: boxes are clipped to the image; boxes
that do not touch it, and clicks beside it, are left out. A prompt of which nothing is left finds
nothing. Pointed prompts are read as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from domain.geometry import Box
from domain.prompts import VISUAL_TEXT, ConceptPrompt, MaskPrompt
from workers.engine.engine import Corners, ImageInput, Pointed

Click = tuple[float, float, int]
_NOT_A_POINT = -1
_NEGATIVE, _POSITIVE, _TOP_LEFT, _BOTTOM_RIGHT = 0, 1, 2, 3  # of Sam3TrackerPromptEncoder


@dataclass(frozen=True, slots=True)
class Exemplar:
    """`centred` is (centre x, centre y, width, height) in fractions of the image."""

    centred: Corners
    positive: bool


@dataclass(frozen=True, slots=True)
class Concept:
    """What is sought in an image; `prompt` is its position among the image's prompts."""

    prompt: int
    text: str
    exemplars: tuple[Exemplar, ...]


def concepts(image: ImageInput) -> Iterator[Concept]:
    """The prompts that any number of masks answer. Boxes alone have Sam3Processor's word."""
    for position, prompt in enumerate(image.prompts):
        if not isinstance(prompt, ConceptPrompt):
            continue
        boxes = exemplars(prompt, width=image.width, height=image.height)
        if boxes or prompt.text is not None:
            yield Concept(position, prompt.text or VISUAL_TEXT, boxes)


def exemplars(prompt: ConceptPrompt, *, width: int, height: int) -> tuple[Exemplar, ...]:
    clipped = (_clip(box, width, height) for box in prompt.boxes)
    return tuple(
        Exemplar(_centred(corners, width, height), positive)
        for corners, positive in zip(clipped, prompt.box_labels, strict=True)
        if corners is not None
    )


def objects(image: ImageInput) -> Iterator[tuple[int, Pointed]]:
    """The prompts that one mask answers, by their position."""
    for position, prompt in enumerate(image.prompts):
        if isinstance(prompt, MaskPrompt):
            pointed = _within(prompt, width=image.width, height=image.height)
        else:
            pointed = prompt if isinstance(prompt, Pointed) else None
        if pointed is not None:
            yield position, pointed


def _within(prompt: MaskPrompt, *, width: int, height: int) -> Pointed | None:
    """What of the prompt lies in the image."""
    points = tuple(
        point for point in prompt.points if 0 <= point.x < width and 0 <= point.y < height
    )
    corners = _clip(prompt.box, width, height) if prompt.box else None
    return Pointed(points, corners) if points or corners else None


def clicks(pointed: Pointed, *, width: int, height: int, side: int) -> tuple[Click, ...]:
    """(x, y, label) in pixels of the image squashed to `side` x `side`, at least one.

    A box is two labelled points, its corners, as in Sam3TrackerPromptEncoder._embed_boxes.
    """
    found: list[Click] = [
        (point.x, point.y, _POSITIVE if point.positive else _NEGATIVE) for point in pointed.points
    ]
    if pointed.box is not None:
        x0, y0, x1, y1 = pointed.box
        found += [(x0, y0, _TOP_LEFT), (x1, y1, _BOTTOM_RIGHT)]
    found = found or [(0.0, 0.0, _NOT_A_POINT)]
    return tuple((x * (side / width), y * (side / height), label) for x, y, label in found)


def _clip(box: Box, width: int, height: int) -> Corners | None:
    x0, x1 = max(box.x0, 0.0), min(box.x1, float(width))
    y0, y1 = max(box.y0, 0.0), min(box.y1, float(height))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _centred(corners: Corners, width: int, height: int) -> Corners:
    x0, y0, x1, y1 = corners
    return (
        (x0 + x1) / 2 / width,
        (y0 + y1) / 2 / height,
        (x1 - x0) / width,
        (y1 - y0) / height,
    )
