"""Parts of a workflow's images. All are cut at the image's edges; what has no pixels is None."""

from dataclasses import dataclass
from uuid import uuid4

import numpy as np

from domain.workflows.blocks import AbsoluteStaticCrop, DynamicCrop, RelativeStaticCrop
from workers.interactive.allowance import ImageCanvases
from workers.interactive.detections import Detection, Detections
from workers.interactive.pictures import MadePicture, Picture


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Whole pixels: from the corner (x0, y0) to before (x1, y1)."""

    x0: int
    y0: int
    x1: int
    y1: int


def absolute_crop(block: AbsoluteStaticCrop, picture: Picture) -> Picture | None:
    rectangle = _around(block.x_center, block.y_center, width=block.width, height=block.height)
    return _cut(picture, rectangle, crop_id=f"absolute_static_crop.{uuid4()}")


def relative_crop(block: RelativeStaticCrop, picture: Picture) -> Picture | None:
    """Fractions become whole pixels before anything else is done with them."""
    frame = picture.frame
    rectangle = _around(
        round(frame.width * block.x_center),
        round(frame.height * block.y_center),
        width=round(frame.width * block.width),
        height=round(frame.height * block.height),
    )
    return _cut(picture, rectangle, crop_id=f"relative_static_crop.{uuid4()}")


def _around(x: int, y: int, *, width: int, height: int) -> Rectangle:
    x0, y0 = round(x - width / 2), round(y - height / 2)
    return Rectangle(x0, y0, x0 + width, y0 + height)


@dataclass(frozen=True, slots=True)
class ObjectCrop:
    """The part of an image that a detection's box encloses, and that detection in it."""

    picture: Picture
    detections: Detections


def dynamic_crops(
    block: DynamicCrop, picture: Picture, detections: Detections, *, canvases: ImageCanvases
) -> list[ObjectCrop | None]:
    """One for each detection, in their order. A crop has the id of its detection."""
    here = detections.seen_from(picture.frame)
    return [_object_crop(block, picture, one, canvases=canvases) for one in here.found]


def _object_crop(
    block: DynamicCrop, picture: Picture, detection: Detection, *, canvases: ImageCanvases
) -> ObjectCrop | None:
    crop = _cut(picture, Rectangle(*map(round, detection.corners)), crop_id=detection.id)
    if crop is None:
        return None
    parent = crop.frame.parent
    moved = detection.moved(-parent.x, -parent.y, into=crop.frame)
    if block.mask_opacity > 0:
        crop = _without_background(block, crop, moved, canvases=canvases)
    return ObjectCrop(crop, Detections(crop.frame, (moved,)))


def _cut(picture: Picture, rectangle: Rectangle, *, crop_id: str) -> Picture | None:
    """Shares the picture's pixels: many crops of one image take no memory."""
    frame = picture.frame
    x0, y0 = max(0, rectangle.x0), max(0, rectangle.y0)
    x1, y1 = min(frame.width, rectangle.x1), min(frame.height, rectangle.y1)
    if x0 >= x1 or y0 >= y1:
        return None
    within = frame.crop(crop_id, x=x0, y=y0, width=x1 - x0, height=y1 - y0)
    return MadePicture(picture.name, picture.pixels[y0:y1, x0:x1], within)


def _without_background(
    block: DynamicCrop, crop: Picture, detection: Detection, *, canvases: ImageCanvases
) -> Picture:
    """All but the object is mixed with the colour: at an opacity of 1 nothing else remains."""
    region = detection.shape.region()
    outside = np.ones((crop.frame.height, crop.frame.width), bool)
    height, width = region.pixels.shape
    outside[region.y : region.y + height, region.x : region.x + width] = region.pixels == 0
    pixels = canvases.copy(crop.pixels)
    for channel, colour in enumerate(block.background_color[::-1]):
        mixed = np.arange(256) * (1 - block.mask_opacity) + colour * block.mask_opacity
        seen = pixels[:, :, channel]
        seen[outside] = mixed.round().astype(np.uint8)[seen[outside]]
    return MadePicture(crop.name, pixels, crop.frame)
