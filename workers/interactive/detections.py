"""What a workflow's steps say to each other, and to the client, of the objects in an image."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import uuid4

import cv2
import numpy as np

from domain.annotations import Rle
from domain.rle import Box, unroll
from domain.workflows.blocks import Sam3
from workers.engine.mask_encoding import empty, encode
from workers.engine.mask_resizing import Crop
from workers.interactive.pictures import Frame
from workers.interactive.polygons import Polygon, polygons
from workers.interactive.segmenter import SegmentedMask
from workers.interactive.shapes import rle_object

_FEWEST_POINTS = 3  # of a polygon that is told of
Corners = tuple[float, float, float, float]  # x0, y0, x1, y1


@dataclass(frozen=True, slots=True)
class Region:
    """Pixels of an object, height x width uint8 of zeros and ones, from the corner (x, y) on."""

    pixels: np.ndarray
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Outline:
    """One part of an object by its polygon, [x, y] in pixels; holes are filled."""

    points: Polygon

    def region(self) -> Region:
        points = np.array(self.points, np.int32)
        x, y = points.min(axis=0)
        width, height = points.max(axis=0) - (x, y) + 1
        pixels = np.zeros((height, width), np.uint8)
        cv2.fillPoly(pixels, [points - (x, y)], color=(1,))
        return Region(pixels, int(x), int(y))

    def moved(self, x: int, y: int, *, into: Frame) -> "Outline":
        moved = np.add(self.points, (x, y))
        return Outline(np.clip(moved, 0, (into.width - 1, into.height - 1)).tolist())

    def as_json(self) -> dict[str, Any]:
        return {"points": [{"x": float(x), "y": float(y)} for x, y in self.points]}


@dataclass(frozen=True, slots=True)
class Mask:
    """A whole object by its run lengths. `box`: tight x, y, width, height."""

    rle: Rle
    box: Box

    def region(self) -> Region:
        return Region(unroll(self.rle, self.box), int(self.box[0]), int(self.box[1]))

    def moved(self, x: int, y: int, *, into: Frame) -> "Mask":
        region = self.region()
        left, top = region.x + x, region.y + y
        inside = region.pixels[
            max(0, -top) : max(0, into.height - top), max(0, -left) : max(0, into.width - left)
        ]
        nothing = empty(width=into.width, height=into.height)
        if not inside.size:
            return Mask(nothing.rle, nothing.box)
        crop = Crop(inside > 0, max(0, left), max(0, top), width=into.width, height=into.height)
        moved = encode(crop) or nothing
        return Mask(moved.rle, moved.box)

    def as_json(self) -> dict[str, Any]:
        return {"rle_mask": rle_object(self.rle)}


@dataclass(frozen=True, slots=True)
class Detection:
    id: str
    class_id: int
    class_name: str
    confidence: float
    corners: Corners
    shape: Outline | Mask

    def moved(self, x: int, y: int, *, into: Frame) -> "Detection":
        x0, y0, x1, y1 = self.corners
        corners = (x0 + x, y0 + y, x1 + x, y1 + y)
        return replace(self, corners=corners, shape=self.shape.moved(x, y, into=into))

    def as_json(self, frame: Frame) -> dict[str, Any]:
        x0, y0, x1, y1 = self.corners
        return {
            "width": x1 - x0,
            "height": y1 - y0,
            "x": (x0 + x1) / 2,
            "y": (y0 + y1) / 2,
            "confidence": self.confidence,
            "class_id": self.class_id,
            **self.shape.as_json(),
            "class": self.class_name,
            "detection_id": self.id,
            "parent_id": frame.parent.id,
            **(frame.origins_as_json() if frame.is_crop else {}),
        }


@dataclass(frozen=True, slots=True)
class Detections:
    """`frame` is the rectangle of whose pixels all coordinates speak."""

    frame: Frame
    found: tuple[Detection, ...]

    def seen_from(self, frame: Frame) -> "Detections":
        """The same in another frame of the same image; of another image's frame, as it is."""
        x, y = self.frame.root.x - frame.root.x, self.frame.root.y - frame.root.y
        if frame == self.frame or frame.root.id != self.frame.root.id:
            return self
        return Detections(frame, tuple(one.moved(x, y, into=frame) for one in self.found))

    def as_json(
        self, system: Literal["own", "parent"], *, told: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        """In coordinates of the frame, or of the image that came in. Each detection goes through
        `told`, one after the other, as all of them may be more than can be told."""
        shown = self if system == "own" else self.seen_from(self.frame.in_root)
        return {
            "image": {"width": shown.frame.width, "height": shown.frame.height},
            "predictions": [told(one.as_json(shown.frame)) for one in shown.found],
        }


def as_detections(masks: Sequence[SegmentedMask], frame: Frame, *, block: Sam3) -> Detections:
    """One detection for each mask, or for each polygon that encloses something."""
    shapes = _by_mask if block.gives_rle else _by_polygon
    names = [block.shown_name(name) for name in block.class_names or ("foreground",)]
    found = [
        Detection(str(uuid4()), mask.prompt, names[mask.prompt], mask.score, corners, shape)
        for mask in masks
        for corners, shape in shapes(mask)
    ]
    return Detections(frame, tuple(found))


def _by_mask(mask: SegmentedMask) -> Iterator[tuple[Corners, Mask]]:
    if mask.area:
        x, y, width, height = mask.box
        yield (x, y, x + width, y + height), Mask(mask.rle, mask.box)


def _by_polygon(mask: SegmentedMask) -> Iterator[tuple[Corners, Outline]]:
    """The box goes from the first to the last pixel's centre, one less than they are many."""
    for points in polygons(mask.rle, mask.box):
        if len(points) >= _FEWEST_POINTS:
            xs, ys = zip(*points, strict=True)
            corners = (float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys)))
            yield corners, Outline(points)
