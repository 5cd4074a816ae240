"""The scene that Roboflow's client is shown, and what it should make of it."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from maskmill.sample_scenes import Scene, SceneObject, draw_scene

MARKS = [
    pytest.mark.xdist_group("clicks"),  # they share a stack
    # the SDK's advice to its users
    pytest.mark.filterwarnings("ignore::inference_sdk.config.InferenceSDKGuidanceWarning"),
    pytest.mark.filterwarnings("ignore::inference_sdk.config.InferenceSDKDeprecationWarning"),
]
SCENE = draw_scene(56)  # five objects of four colours, all of which the demo network tells apart
OBJECT = SCENE.objects[0]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def of_polygons(polygons: Sequence[Sequence[Sequence[int]]], size: tuple[int, int]) -> np.ndarray:
    """The mask that outlines enclose, their own pixels included. Holes are lost in them."""
    canvas = Image.new("1", size)
    for polygon in polygons:
        points = [tuple(point) for point in polygon]
        ImageDraw.Draw(canvas).polygon(points, fill=1, outline=1) if len(points) > 2 else None
    return np.asarray(canvas)


def of_rle(masks: dict[str, Any]) -> np.ndarray:
    return np.asarray(coco.decode(masks), bool)


def encoded(scene: Scene) -> dict[str, str]:
    return {"type": "base64", "value": base64.b64encode(scene.encoded()).decode()}


def expect_found(predictions: Sequence[dict[str, Any]], wanted: Sequence[SceneObject]) -> None:
    masks = [of_rle(prediction["masks"]) for prediction in predictions]
    assert len(masks) == len(wanted)
    for thing in wanted:
        assert max(overlap(mask, thing.mask) for mask in masks) > 0.85, thing.name


def named(name: str, scene: Scene = SCENE) -> list[SceneObject]:
    return [thing for thing in scene.objects if thing.name == name]


def centred(thing: SceneObject) -> dict[str, float]:
    x0, y0, x1, y1 = thing.box
    return {"x": (x0 + x1) / 2, "y": (y0 + y1) / 2, "width": x1 - x0, "height": y1 - y0}
