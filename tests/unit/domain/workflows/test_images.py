"""The images among a workflow's inputs."""

from typing import Any

import pytest

from domain.workflows import (
    Plan,
    WorkflowError,
    compile_workflow,
    image_error,
    image_values,
    with_file_numbers,
)
from tests.unit.domain.workflows.documents import IMAGE, output, parameter, sam, specification

OTHER = {"type": "InferenceImage", "name": "other"}


def plan_for(inputs: dict[str, Any], *declared: dict[str, Any]) -> Plan:
    return compile_workflow(specification(sam(), inputs=(IMAGE, *declared)), inputs)


def base64(text: str) -> dict[str, str]:
    return {"type": "base64", "value": text}


def test_images_come_out_in_order_and_numbers_go_into_their_places() -> None:
    inputs = {
        "other": "https://example.com/a.jpg",
        "image": [base64("one"), "two"],
        "text": "dog",
        "undeclared": base64("three"),
    }
    plan = plan_for(inputs, parameter("text"), OTHER)

    values = image_values(plan, inputs)

    assert [value.value for value in values] == ["one", "two", "https://example.com/a.jpg"]
    assert [value.name for value in values] == ["image.[0]", "image.[1]", "other"]
    assert [value.is_url for value in values] == [False, False, True]
    assert with_file_numbers(plan, inputs, [0, 1, 2]) == {
        "image": [0, 1],
        "other": 2,
        "text": "dog",
    }


def test_inputs_with_numbers_compile_to_the_same_plan() -> None:
    inputs = {"image": [base64("one"), base64("two")], "other": "three"}
    plan = plan_for(inputs, OTHER)

    assert plan_for(with_file_numbers(plan, inputs, [0, 1, 2]), OTHER) == plan


def test_the_type_of_an_image_is_ignored() -> None:
    inputs = {"image": {"type": "url", "value": "aaaa"}}

    (value,) = image_values(plan_for(inputs), inputs)

    assert not value.is_url


def test_one_image_stands_for_all_of_a_batch() -> None:
    assert plan_for({"image": "a", "other": ["b", "c", "d"]}, OTHER).batch_size == 3
    assert plan_for({"image": ["a"], "other": ["b", "c", "d"]}, OTHER).batch_size == 3


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"image": None},
        {"image": []},
        {"image": [["a"]]},
        {"image": ["a", None]},
        {"image": ["a", "b"], "other": ["a", "b", "c"]},
    ],
)
def test_missing_empty_nested_or_unequal_images_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError) as caught:
        plan_for({"other": "a", **given}, OTHER)

    assert caught.value.status == 400
    assert caught.value.body["error_type"] == "RuntimeInputError"


@pytest.mark.parametrize("bad", [{"type": "base64"}, {"value": None}, {"value": 3}, 7, "", True])
def test_an_image_without_text_is_named(bad: Any) -> None:
    inputs = {"image": ["a", bad]}
    plan = plan_for(inputs)

    with pytest.raises(WorkflowError) as caught:
        image_values(plan, inputs)

    assert caught.value.status == 400
    assert "`image.[1]`" in caught.value.body["message"]


def test_a_refused_image_is_named_with_its_cause() -> None:
    error = image_error("image.[1]", "Malformed base64 input image.")

    assert error.body == {
        "message": "Failed to assemble `image.[1]`. Could not load input image. "
        "Cause: Malformed base64 input image.",
        "error_type": "RuntimeInputError",
        "context": "workflow_execution | runtime_input_validation",
        "inner_error_type": None,
        "inner_error_message": None,
    }


def test_answers_are_one_per_image_if_an_output_depends_on_images() -> None:
    inputs = {"image": ["a", "b", "c"], "text": "dog"}
    declared = (IMAGE, parameter("text"))

    def answers(*outputs: dict[str, Any]) -> int:
        document = specification(sam(), inputs=declared, outputs=outputs)
        return compile_workflow(document, inputs).answers

    assert answers(output("$steps.sam.predictions")) == 3
    assert answers(output("$inputs.text")) == 1
    assert answers() == 1
