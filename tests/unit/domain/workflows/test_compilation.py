"""From a specification to a plan, or to what is wrong with it."""

from typing import Any

import pytest

from domain.workflows import compile_workflow
from domain.workflows.limits import MAX_STEPS
from domain.workflows.selectors import FromInput, FromStep
from tests.unit.domain.workflows.compiling import ONE, compiled, only_block, refused
from tests.unit.domain.workflows.documents import (
    IMAGE,
    crops,
    output,
    parameter,
    polygons,
    sam,
    specification,
)


def test_steps_run_after_those_they_need_however_they_are_listed() -> None:
    boxes = polygons(type="BoundingBoxVisualization", name="boxes", image="$steps.draw.image")

    plan = compiled(boxes, polygons(), sam())

    assert [step.name for step in plan.steps] == ["sam", "draw", "boxes"]
    assert plan.steps[1].image == FromInput("image")
    assert plan.steps[1].predictions == FromStep("sam", "predictions")


def test_a_workflow_has_so_many_steps_and_no_more() -> None:
    steps = [sam(name=f"sam{number}") for number in range(MAX_STEPS + 1)]
    assert len(compiled(*steps[1:]).steps) == MAX_STEPS
    error = refused(specification(*steps))
    assert (error.status, error.body["error_type"]) == (400, "WorkflowSyntaxError")
    assert str(MAX_STEPS) in error.body["inner_error_message"]


def test_a_circle_of_steps_is_refused_by_name() -> None:
    first = polygons(name="first", image="$steps.second.image")
    second = polygons(name="second", image="$steps.first.image")

    error = refused(specification(sam(), first, second))

    assert error.status == 400
    assert error.body["error_type"] == "ExecutionGraphStructureError"
    assert {block["block_id"] for block in error.body["blocks_errors"]} == {"first", "second"}


def test_crops_of_objects_open_a_list_that_later_steps_lie_in() -> None:
    inner = sam(name="inner", images="$steps.crop.crops")

    plan = compiled(
        inner,
        crops(),
        sam(),
        outputs=(output("$steps.inner.predictions"), output("$inputs.image", "i")),
    )

    assert [step.lineage for step in plan.steps] == [(), (), ("crop",)]
    assert [one.lineage for one in plan.outputs] == [("crop",), ()]


def test_an_image_and_predictions_of_another_number_are_refused() -> None:
    inner = sam(name="inner", images="$steps.crop.crops")
    draw = polygons(predictions="$steps.inner.predictions")

    error = refused(specification(sam(), crops(), inner, draw))

    assert error.body["error_type"] == "StepInputLineageError"
    assert error.body["blocks_errors"][0]["block_id"] == "draw"


def test_parameters_take_the_requests_value_else_their_default() -> None:
    step = sam(1, threshold="$inputs.threshold", class_names="$inputs.classes")
    inputs = (IMAGE, parameter("threshold", default_value=0.25), parameter("classes"))

    plan = compile_workflow(specification(step, inputs=inputs), {**ONE, "classes": "dog, cat"})
    block = only_block(plan)

    assert block.class_names == ("dog", "cat")
    assert block.thresholds == (0.25, 0.25)


def test_inference_names_of_inputs_are_known_too() -> None:
    inputs = (
        {"type": "InferenceImage", "name": "image"},
        {"type": "InferenceParameter", "name": "classes"},
    )

    plan = compile_workflow(
        specification(sam(class_names="$inputs.classes"), inputs=inputs),
        {**ONE, "classes": ["bird"], "undeclared": 1},
    )

    assert only_block(plan).class_names == ("bird",)
    assert plan.images == ("image",)
    assert plan.parameters == ("classes",)


@pytest.mark.parametrize("given", [{"confidence": "high"}, {"confidence": 1.5}, {}])
def test_a_parameter_that_does_not_suit_its_block_is_the_inputs_fault(
    given: dict[str, Any],
) -> None:
    document = specification(
        sam(confidence="$inputs.confidence"), inputs=(IMAGE, parameter("confidence"))
    )

    error = refused(document, {**ONE, **given})

    assert (error.status, error.body["error_type"]) == (400, "RuntimeInputError")
    assert "$inputs.confidence" in error.body["message"]
    assert "blocks_errors" not in error.body


@pytest.mark.parametrize("version", ["1.0", "1.15", "1.3.0", "1"])
def test_versions_up_to_1_15_are_supported(version: str) -> None:
    assert compiled(sam(), version=version).steps


@pytest.mark.parametrize(
    "version", ["1.16", "1.99", "2.0", "0.9", "", "one", "1.0.0.0", "1." + "9" * 9999]
)
def test_other_versions_are_not(version: str) -> None:
    error = refused(specification(sam(), version=version))

    assert (error.status, error.body["error_type"]) == (400, "NotSupportedExecutionEngineError")
    assert len(error.body["message"]) < 200


@pytest.mark.parametrize("missing", ["version", "inputs", "steps", "outputs"])
def test_a_missing_part_is_a_syntax_error(missing: str) -> None:
    document = specification(sam())
    del document[missing]

    error = refused(document)

    assert error.body["error_type"] == "WorkflowSyntaxError"
    assert error.body["inner_error_message"] == f"{missing}: Field required"


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        specification(version=1.0),
        specification(inputs=({"type": "WorkflowVideoMetadata", "name": "video"},)),
        specification(inputs=({"name": "image"},)),
        specification(outputs=({"type": "JsonField", "name": "a"},)),
        specification(outputs=(output("no selector"),)),
        specification(outputs=(output("$steps.sam"),)),
        specification(sam(), outputs=(output("$steps.sam.*", coordinates_system="mine"),)),
        specification(sam(images="image")),
        specification(sam(name=None)),
        specification({}),
    ],
)
def test_what_is_no_workflow_is_a_syntax_error(document: Any) -> None:
    error = refused(document)

    assert (error.status, error.body["error_type"]) == (400, "WorkflowSyntaxError")
    assert set(error.body) == {
        "message",
        "error_type",
        "context",
        "inner_error_type",
        "inner_error_message",
        "blocks_errors",
    }


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (specification(sam(), sam(2)), "step"),
        (specification(inputs=(IMAGE, parameter("image"))), "input"),
        (specification(outputs=(output("$inputs.image"), output("$inputs.image"))), "output"),
    ],
)
def test_a_name_twice_is_refused(document: Any, kind: str) -> None:
    error = refused(document)

    assert (error.status, error.body["error_type"]) == (400, "DuplicatedNameError")
    assert kind in error.body["message"]


@pytest.mark.parametrize(
    "document",
    [
        specification(sam(images="$inputs.photo")),
        specification(sam(confidence="$inputs.confidence")),
        specification(polygons()),
        specification(sam(), polygons(predictions="$steps.sam.masks")),
        specification(outputs=(output("$inputs.photo"),)),
        specification(outputs=(output("$steps.sam.predictions"),)),
        specification(sam(), outputs=(output("$steps.sam.masks"),)),
    ],
)
def test_a_selector_to_what_does_not_exist_is_refused(document: Any) -> None:
    error = refused(document)

    assert (error.status, error.body["error_type"]) == (400, "InvalidReferenceTargetError")
    assert len(error.body["blocks_errors"]) == 1


@pytest.mark.parametrize(
    "document",
    [
        specification(sam(), polygons(image="$steps.sam.predictions")),
        specification(sam(), polygons(predictions="$inputs.image")),
        specification(sam(), polygons(predictions="$steps.sam.*")),
        specification(sam(confidence="$inputs.image")),
        specification(sam(), sam(name="b", confidence="$steps.sam.predictions")),
        specification(sam(images="$inputs.text"), inputs=(IMAGE, parameter("text"))),
    ],
)
def test_a_selector_to_another_kind_is_refused(document: Any) -> None:
    error = refused(document)

    assert (error.status, error.body["error_type"]) == (400, "ReferenceTypeError")


def test_unknown_fields_are_ignored_everywhere() -> None:
    document = specification(
        sam(unknown="$inputs.nothing"), outputs=(output("$inputs.image", x=1),)
    )

    assert compile_workflow(document | {"more": 1}, ONE).steps


def test_half_characters_in_a_document_come_back_encodable() -> None:
    error = refused(specification(sam(type="\ud800")))

    for text in (error.body["message"], error.body["inner_error_message"]):
        assert text.encode()
