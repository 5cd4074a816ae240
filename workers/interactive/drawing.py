"""Detections drawn on an image, by the `supervision` library."""

from collections.abc import Callable, Mapping

import numpy as np
import supervision as sv
from supervision.annotators.base import BaseAnnotator

from domain.workflows.blocks import (
    SAMPLED_PALETTES,
    BoundingBoxVisualization,
    LabelText,
    LabelVisualization,
    MaskVisualization,
    PolygonVisualization,
    Visualization,
)
from workers.interactive.allowance import ImageCanvases
from workers.interactive.detections import Detection, Detections, Region
from workers.interactive.pictures import Frame, MadePicture, Picture

_MATPLOTLIB = "Matplotlib "
_MAX_LABEL = 256  # characters
_MAX_LABEL_LINES = 8


def draw(
    block: Visualization, picture: Picture, detections: Detections, *, canvases: ImageCanvases
) -> Picture:
    """A new picture with the detections on it, each at its place, also where they were found in a
    crop of the picture."""
    scene = canvases.copy(picture.pixels)
    here = detections.seen_from(picture.frame)
    if here.found:
        _annotate(block, scene, here)
    return MadePicture(picture.name, scene, picture.frame)


def _annotate(block: Visualization, scene: np.ndarray, detections: Detections) -> None:
    """Annotators draw over the scene that they are given."""
    known = as_supervision(detections)
    if isinstance(block, LabelVisualization):
        labels = [label_text(block.text, at, one) for at, one in enumerate(detections.found)]
        _label_annotator(block).annotate(scene, known, labels=labels)
    else:
        _annotator(block).annotate(scene, known)


def _annotator(block: Visualization) -> BaseAnnotator:
    colour, lookup = palette(block), sv.ColorLookup[block.color_axis]
    match block:
        case PolygonVisualization():
            return sv.PolygonAnnotator(colour, block.thickness, lookup)
        case MaskVisualization():
            return sv.MaskAnnotator(colour, block.opacity, lookup)
        case BoundingBoxVisualization(roundness=0.0):
            return sv.BoxAnnotator(colour, block.thickness, lookup)
        case BoundingBoxVisualization():
            return sv.RoundBoxAnnotator(colour, block.thickness, lookup, block.roundness)
    raise TypeError(f"{type(block).__name__} draws nothing")


def _label_annotator(block: LabelVisualization) -> sv.LabelAnnotator:
    return sv.LabelAnnotator(
        color=palette(block),
        color_lookup=sv.ColorLookup[block.color_axis],
        text_position=sv.Position[block.text_position],
        text_color=sv.Color(*block.text_color),
        text_scale=block.text_scale,
        text_thickness=block.text_thickness,
        text_padding=block.text_padding,
        border_radius=block.border_radius,
    )


def palette(block: Visualization) -> sv.ColorPalette:
    name = block.color_palette
    if name == "CUSTOM":
        return sv.ColorPalette([sv.Color(*colour) for colour in block.custom_colors])
    if name.startswith(_MATPLOTLIB):
        return _of_matplotlib(name.removeprefix(_MATPLOTLIB), size=block.palette_size)
    return sv.ColorPalette.ROBOFLOW if name == "ROBOFLOW" else sv.ColorPalette.DEFAULT


def _of_matplotlib(name: str, *, size: int) -> sv.ColorPalette:
    """Matplotlib writes some of its names in small letters."""
    is_small = name.startswith("Tab") or name in SAMPLED_PALETTES
    return sv.ColorPalette.from_matplotlib(name.lower() if is_small else name, size)


def label_text(text: LabelText, index: int, detection: Detection) -> str:
    """`index` is the detection's place among the others. No block here tracks anything. What is
    drawn of a long name is its beginning."""
    lines = _TEXTS[text](index, detection)[:_MAX_LABEL].splitlines()
    return "\n".join(lines[:_MAX_LABEL_LINES])


def _dimensions(detection: Detection) -> str:
    """Centre and size in whole pixels."""
    x0, y0, x1, y1 = detection.corners
    return f"{int((x0 + x1) / 2)}, {int((y0 + y1) / 2)} {int(x1 - x0)}x{int(y1 - y0)}"


_TEXTS: Mapping[LabelText, Callable[[int, Detection], str]] = {
    "Class": lambda _, one: one.class_name,
    "Confidence": lambda _, one: f"{one.confidence:.2f}",
    "Class and Confidence": lambda _, one: f"{one.class_name} {one.confidence:.2f}",
    "Index": lambda index, _: str(index),
    "Dimensions": lambda _, one: _dimensions(one),
    "Area": lambda _, one: str(int(one.shape.region().pixels.sum())),
    "Tracker Id": lambda *_: "No Tracker ID",
    "Time In Zone": lambda *_: "In zone: N/A",
}


def as_supervision(detections: Detections) -> sv.Detections:
    """Masks stay as small as their objects: whole ones of 100 objects on 12 megapixels would take
    1.2 GB."""
    found = detections.found
    return sv.Detections(
        xyxy=np.array([one.corners for one in found], np.float32),
        mask=sv.CompactMask.merge(
            [_compact(one.shape.region(), detections.frame) for one in found]
        ),
        confidence=np.array([one.confidence for one in found], np.float32),
        class_id=np.array([one.class_id for one in found]),
    )


def _compact(region: Region, frame: Frame) -> sv.CompactMask:
    pixels = region.pixels if region.pixels.size else np.zeros((1, 1), np.uint8)
    height, width = pixels.shape
    corners = np.array([[0, 0, width - 1, height - 1]])
    alone = sv.CompactMask.from_dense(pixels[None].astype(bool), corners, (height, width))
    return alone.with_offset(region.x, region.y, (frame.height, frame.width))
