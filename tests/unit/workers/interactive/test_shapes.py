"""What an answer says of one mask."""

import json
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from domain.annotations import Rle
from domain.rle import Box
from workers.interactive.shapes import prediction


@dataclass(frozen=True)
class Mask:
    score: float
    rle: Rle
    box: Box


def rectangle(score: float = 0.75) -> Mask:
    """Columns 10 to 39 and rows 10 to 49 of an image of 160 x 120."""
    pixels = np.zeros((120, 160), np.uint8)
    pixels[10:50, 10:40] = 1
    return Mask(score, _rle(pixels), (10.0, 10.0, 30.0, 40.0))


def nothing() -> Mask:
    return Mask(0.25, _rle(np.zeros((120, 160), np.uint8)), (0.0, 0.0, 0.0, 0.0))


def _rle(pixels: np.ndarray) -> Rle:
    height, width = pixels.shape
    return Rle((height, width), coco_mask.encode(np.asfortranarray(pixels))["counts"])


def test_polygons_are_whole_numbers_down_the_left_side_first() -> None:
    assert json.dumps(prediction(rectangle(), format="polygon")) == (
        '{"masks": [[[10, 10], [10, 49], [39, 49], [39, 10]]], '
        '"confidence": 0.75, "format": "polygon"}'
    )


def test_run_lengths_are_readable_by_pycocotools_after_json() -> None:
    answer = json.loads(json.dumps(prediction(rectangle(), format="rle")))

    assert answer["format"] == "rle"
    assert answer["masks"]["size"] == [120, 160]
    assert coco_mask.decode(answer["masks"])[10:50, 10:40].all()
    assert coco_mask.area(answer["masks"]) == 30 * 40


def test_polygons_and_run_lengths_agree() -> None:
    (outline,) = prediction(rectangle(), format="polygon")["masks"]
    box = coco_mask.toBbox(prediction(rectangle(), format="rle")["masks"]).tolist()

    xs, ys = zip(*outline, strict=True)
    assert [min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1] == box


def test_an_empty_mask_is_an_outline_without_points_or_zeros_only() -> None:
    assert prediction(nothing(), format="polygon")["masks"] == [[]]
    assert coco_mask.area(prediction(nothing(), format="rle")["masks"]) == 0
