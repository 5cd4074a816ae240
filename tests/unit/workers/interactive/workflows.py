"""Workflows, run on a scene whose objects are known."""

import base64
import time
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from domain.interactive import WorkflowRequest
from domain.workflows.errors import WorkflowError
from maskmill.sample_scenes import Scene, SceneObject, draw_scene
from tests.unit.domain.workflows.documents import (
    output,
    specification,
)
from workers.interactive.segmenter import Segmenter
from workers.interactive.workflow_run import run_workflow

MAX_PIXELS = 10**6
SCENE = draw_scene(5, size=256, objects=5, noise=False)
NAMES = sorted({one.name for one in SCENE.objects})
PREDICTIONS = output("$steps.sam.predictions", "predictions")


def answered(
    segmenter: Segmenter,
    document: dict[str, Any],
    files: Sequence[bytes] = (SCENE.encoded(),),
    *,
    inputs: dict[str, Any] | None = None,
    excluded: tuple[str, ...] = (),
    seconds: float = 60.0,
) -> list[dict[str, Any]]:
    request = WorkflowRequest(
        specification=document, inputs=inputs or {"image": 0}, excluded_fields=excluded
    )
    body = run_workflow(
        request,
        files=files,
        owner="key",
        segmenter=segmenter,
        max_pixels=MAX_PIXELS,
        deadline=time.monotonic() + seconds,
    )
    assert body["profiler_trace"] == []
    return body["outputs"]


def predicted(segmenter: Segmenter, *steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    document = specification(*steps, outputs=(PREDICTIONS | fields,))
    return answered(segmenter, document)[0]["predictions"]


def refusal(segmenter: Segmenter, document: dict[str, Any], **fields: Any) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        answered(segmenter, document, **fields)
    return caught.value


def pixels_of(image: dict[str, Any]) -> np.ndarray:
    assert image["type"] == "base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(image["value"]))).convert("RGB"))


def the_object(prediction: dict[str, Any], scene: Scene = SCENE) -> SceneObject:
    """The one of that name whose box lies around the same centre."""
    (found,) = [
        one
        for one in scene.objects
        if one.name == prediction["class"]
        and abs((one.box[0] + one.box[2]) / 2 - prediction["x"]) < 6
        and abs((one.box[1] + one.box[3]) / 2 - prediction["y"]) < 6
    ]
    return found


def static_crop(**fields: Any) -> dict[str, Any]:
    step = {"type": "AbsoluteStaticCrop", "name": "cut", "images": "$inputs.image"}
    return step | {"x_center": 128, "y_center": 128, "width": 200, "height": 180} | fields
