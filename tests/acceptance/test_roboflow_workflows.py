"""Workflows, run by Roboflow's own client."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from inference_sdk import InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError
from PIL import Image

from maskmill.sample_scenes import draw_scene
from tests.acceptance.roboflow import MARKS, SCENE, centred, named

pytestmark = MARKS


def workflow(version: str, **fields: Any) -> dict[str, Any]:
    """SAM 3 on `image` for `classes`, and a picture of it."""
    step = {"type": f"roboflow_core/sam3@{version}", "name": "sam", "images": "$inputs.image"}
    drawn = {
        "type": "roboflow_core/polygon_visualization@v1",
        "name": "drawn",
        "image": "$inputs.image",
        "predictions": "$steps.sam.predictions",
        "thickness": 5,
    }
    return {
        "version": "1.0",
        "inputs": [
            {"type": "InferenceImage", "name": "image"},
            {"type": "WorkflowParameter", "name": "classes", "default_value": ["circle"]},
        ],
        "steps": [{**step, "class_names": "$inputs.classes", **fields}, drawn],
        "outputs": [
            {"type": "JsonField", "name": "found", "selector": "$steps.sam.predictions"},
            {"type": "JsonField", "name": "picture", "selector": "$steps.drawn.image"},
        ],
    }


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_a_workflow_finds_and_draws(sdk: InferenceHTTPClient, version: str) -> None:
    names = sorted({thing.name for thing in SCENE.objects})
    (answer,) = sdk.run_workflow(
        specification=workflow(version),
        images={"image": SCENE.image},
        parameters={"classes": names},
    )
    assert answer["found"]["image"] == {"width": 512, "height": 512}
    found = {prediction["class"] for prediction in answer["found"]["predictions"]}
    assert found == set(names)
    for prediction in answer["found"]["predictions"]:
        places = [centred(thing) for thing in named(prediction["class"])]
        assert any(
            abs(prediction["x"] - place["x"]) < 12 and abs(prediction["y"] - place["y"]) < 12
            for place in places
        )
        assert ("rle_mask" in prediction) == (version == "v3")
    picture = Image.open(io.BytesIO(base64.b64decode(answer["picture"])))
    assert picture.size == SCENE.image.size
    changed = np.abs(np.asarray(picture, int) - np.asarray(SCENE.image.convert("RGB"), int)).max(2)
    assert 0.001 < (changed > 60).mean() < 0.3  # outlines, no fill


def test_a_workflow_on_several_images_answers_each(sdk: InferenceHTTPClient) -> None:
    scenes = [draw_scene(seed) for seed in (56, 35, 58)]
    answers = sdk.run_workflow(
        specification=workflow("v3"),
        images={"image": [scene.image for scene in scenes]},
        parameters={"classes": [scenes[1].objects[0].name]},
        excluded_fields=["picture"],
    )
    assert [set(answer) for answer in answers] == [{"found"}] * 3
    assert answers[1]["found"]["predictions"]


def test_the_older_workflow_route_does_the_same(sdk: InferenceHTTPClient) -> None:
    (answer,) = sdk.infer_from_workflow(
        specification=workflow("v3"), images={"image": SCENE.image}, excluded_fields=["picture"]
    )
    assert set(answer) == {"found"}


def test_an_unsupported_block_is_named_with_those_that_are(sdk: InferenceHTTPClient) -> None:
    specification = workflow("v3")
    specification["steps"][1]["type"] = "roboflow_core/ocr_model@v1"
    with pytest.raises(HTTPCallErrorError) as refused:
        sdk.run_workflow(specification=specification, images={"image": SCENE.image})
    assert refused.value.status_code == 400
    assert "roboflow_core/ocr_model@v1" in str(refused.value)
    assert "roboflow_core/sam3@v3" in str(refused.value)


def test_a_named_workflow_is_not_found(sdk: InferenceHTTPClient) -> None:
    with pytest.raises(HTTPCallErrorError) as unknown:
        sdk.run_workflow("me", "mine", images={"image": SCENE.image})
    assert unknown.value.status_code == 404
