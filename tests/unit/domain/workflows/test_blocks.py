"""What a step may say, and what becomes of it."""

from typing import Any

import pytest

from domain.workflows.blocks import SUPPORTED
from tests.unit.domain.workflows.compiling import compiled, only_block, refused
from tests.unit.domain.workflows.documents import (
    polygons,
    sam,
    specification,
)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("dog", ("dog",)),
        ("red circle, blue  star ,", ("red circle", "blue  star")),
        (["a, b"], ("a, b",)),
        ([], ()),
        ("", ()),
    ],
)
def test_class_names_are_a_list_or_a_string_split_at_commas(
    given: Any, names: tuple[str, ...]
) -> None:
    assert only_block(compiled(sam(1, class_names=given))).class_names == names


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize(
    "given", [None, [f"class {index}" for index in range(17)], [""], 7, [None]]
)
def test_missing_blank_or_too_many_class_names_are_refused(version: int, given: Any) -> None:
    error = refused(specification(sam(version, class_names=given)))

    assert (error.status, error.body["error_type"]) == (400, "WorkflowSyntaxError")
    (where,) = error.body["blocks_errors"]
    assert (where["block_id"], where["property_name"]) == ("sam", "class_names")


def test_class_names_left_out_are_refused_too() -> None:
    step = sam()
    del step["class_names"]

    assert "class_names" in refused(specification(step)).body["inner_error_message"]


def test_sixteen_class_names_are_taken() -> None:
    names = [f"class {index}" for index in range(16)]

    assert len(only_block(compiled(sam(class_names=names))).thresholds) == 16


def test_a_threshold_of_zero_stays_zero() -> None:
    assert only_block(compiled(sam(1, threshold=0))).thresholds == (0.0, 0.0)


def test_a_classs_confidence_counts_above_the_common_one_only() -> None:
    block = only_block(compiled(sam(2, confidence=0.4, per_class_confidence=[0.1, 0.8])))

    assert block.thresholds == (0.4, 0.8)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "fields",
    [
        {"per_class_confidence": [0.5]},
        {"per_class_confidence": [0.5, 1.5]},
        {"nms_iou_threshold": 1.5},
        {"nms_iou_threshold": -0.1},
        {"confidence": float("nan")},
        {"confidence": None},
        {"apply_nms": "perhaps"},
        {"model_id": None},
    ],
)
def test_fields_out_of_their_range_are_refused(version: int, fields: dict[str, Any]) -> None:
    error = refused(specification(sam(version, **fields)))

    assert error.body["error_type"] == "WorkflowSyntaxError"
    assert next(iter(fields)) in error.body["inner_error_message"]
    assert error.body["blocks_errors"][0]["block_type"] == f"roboflow_core/sam3@v{version}"


def test_versions_differ_in_overlaps_run_lengths_and_names() -> None:
    first, second, third = (
        only_block(compiled(sam(version, class_mapping={"dog": "hund"}))) for version in (1, 2, 3)
    )

    assert [block.max_overlap for block in (first, second, third)] == [None, 0.9, 0.9]
    assert [block.gives_rle for block in (first, second, third)] == [False, False, True]
    assert [block.shown_name("dog") for block in (first, second, third)] == ["dog", "dog", "hund"]
    assert only_block(compiled(sam(2, apply_nms=False))).max_overlap is None
    assert not only_block(compiled(sam(3, output_format="polygons"))).gives_rle


def test_an_unknown_model_is_not_found() -> None:
    error = refused(specification(sam(model_id="my-project/3")))

    assert (error.status, error.body["error_type"]) == (404, "ClientCausedStepExecutionError")
    assert "my-project/3" in error.body["message"]


@pytest.mark.parametrize(
    "alias",
    [
        "PolygonVisualization",
        "MaskVisualization",
        "BoundingBoxVisualization",
        "LabelVisualization",
        "DynamicCrop",
        "Crop",
    ],
)
def test_blocks_are_known_by_their_old_names(alias: str) -> None:
    plan = compiled(sam(), polygons(type=alias))

    assert plan.steps[1].block.type == alias


def test_both_spellings_of_the_relative_crop_are_known() -> None:
    sides = {"x_center": 0.5, "y_center": 0.5, "width": 0.5, "height": 0.5}
    for name in ("statoic", "static"):
        step = {"type": f"roboflow_core/relative_{name}_crop@v1", "name": "cut", **sides}
        assert compiled({**step, "images": "$inputs.image"}).steps


@pytest.mark.parametrize(
    "fields",
    [
        {"color_palette": "Matplotlib Jet"},
        {"color_palette": "CUSTOM"},
        {"custom_colors": ["#12"]},
        {"custom_colors": ["rgb(300, 0, 0)"]},
        {"color_axis": "TRACK"},
        {"palette_size": 0},
        {"palette_size": 10**9},
        {"thickness": -1},
        {"predictions": None},
        {"predictions": "all"},
    ],
)
def test_drawings_that_cannot_be_made_are_refused(fields: dict[str, Any]) -> None:
    error = refused(specification(sam(), polygons(**fields)))

    assert (error.status, error.body["error_type"]) == (400, "WorkflowSyntaxError")
    assert error.body["blocks_errors"][0]["block_id"] == "draw"


def test_colours_are_read_in_every_notation() -> None:
    written = ["#fff", "#010203", "rgb(1, 2, 3)", "bgr(3, 2, 1)", "red", [1, 2, 3]]

    plan = compiled(sam(), polygons(color_palette="CUSTOM", custom_colors=written))

    expected = ((255, 255, 255), (1, 2, 3), (1, 2, 3), (1, 2, 3), (255, 0, 0), (1, 2, 3))
    assert plan.steps[1].block.custom_colors == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("type_name", ["roboflow_core/ocr_model@v1", None, 3, ["a"]])
def test_an_unsupported_block_is_named_with_those_that_are_supported(type_name: Any) -> None:
    error = refused(specification(sam(type=type_name)))

    assert (error.status, error.body["error_type"]) == (400, "WorkflowSyntaxError")
    (where,) = error.body["blocks_errors"]
    assert where["block_id"] == "sam"
    assert all(block in where["property_details"] for block in SUPPORTED)
    assert "ocr_model" in where["property_details"] or type_name != "roboflow_core/ocr_model@v1"
