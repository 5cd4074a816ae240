"""Specifications to start from."""

from typing import Any

IMAGE = {"type": "WorkflowImage", "name": "image"}


def parameter(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "WorkflowParameter", "name": name, **fields}


def sam(version: int = 3, **fields: Any) -> dict[str, Any]:
    step = {
        "type": f"roboflow_core/sam3@v{version}",
        "name": "sam",
        "images": "$inputs.image",
        "class_names": ["dog", "cat"],
    }
    return step | fields


def polygons(**fields: Any) -> dict[str, Any]:
    step = {
        "type": "roboflow_core/polygon_visualization@v1",
        "name": "draw",
        "image": "$inputs.image",
        "predictions": "$steps.sam.predictions",
    }
    return step | fields


def crops(**fields: Any) -> dict[str, Any]:
    step = {
        "type": "roboflow_core/dynamic_crop@v1",
        "name": "crop",
        "image": "$inputs.image",
        "predictions": "$steps.sam.predictions",
    }
    return step | fields


def output(selector: str, name: str = "result", **fields: Any) -> dict[str, Any]:
    return {"type": "JsonField", "name": name, "selector": selector, **fields}


def specification(
    *steps: dict[str, Any],
    inputs: tuple[dict[str, Any], ...] = (IMAGE,),
    outputs: tuple[dict[str, Any], ...] = (),
    version: Any = "1.0",
) -> dict[str, Any]:
    return {
        "version": version,
        "inputs": list(inputs),
        "steps": list(steps),
        "outputs": list(outputs),
    }
