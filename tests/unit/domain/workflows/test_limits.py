"""However much a client writes, little is made of it, and little comes back."""

import json
from typing import Any

import pytest

from domain.workflows import Plan, WorkflowError, compile_workflow
from domain.workflows.limits import (
    MAX_CLASS_NAME,
    MAX_COLOURS,
    MAX_INPUTS,
    MAX_LEVELS,
    MAX_MAPPED_CLASSES,
    MAX_NAME,
    MAX_OUTPUTS,
    MAX_STEPS,
)
from tests.unit.domain.workflows.compiling import ONE
from tests.unit.domain.workflows.documents import (
    IMAGE,
    crops,
    output,
    parameter,
    polygons,
    sam,
    specification,
)

LARGEST_REFUSAL = 200_000  # bytes


def compiled(document: Any, **inputs: Any) -> Plan:
    return compile_workflow(document, {**ONE, **inputs})


def refused(document: Any, **inputs: Any) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        compiled(document, **inputs)
    assert len(json.dumps(caught.value.body)) < LARGEST_REFUSAL
    assert len(caught.value.body.get("blocks_errors", [])) <= 50
    return caught.value


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def many_outputs(count: int) -> dict[str, Any]:
    outputs = tuple(output("$inputs.image", f"o{number}") for number in range(count))
    return specification(outputs=outputs)


def many_inputs(count: int) -> dict[str, Any]:
    parameters = (parameter(f"p{number}") for number in range(count - 1))
    return specification(inputs=(IMAGE, *parameters))


def long_step_name(length: int) -> dict[str, Any]:
    name = "s" * length
    return specification(sam(name=name), outputs=(output(f"$steps.{name}.predictions"),))


def long_input_name(length: int) -> dict[str, Any]:
    name = "p" * length
    return specification(inputs=(IMAGE, parameter(name)), outputs=(output(f"$inputs.{name}"),))


def long_output_name(length: int) -> dict[str, Any]:
    return specification(outputs=(output("$inputs.image", "o" * length),))


def long_class_name(length: int) -> dict[str, Any]:
    return specification(sam(class_names=["c" * length]))


def long_mapped_name(length: int) -> dict[str, Any]:
    return specification(sam(class_mapping={"dog": "d" * length}))


def long_model_id(length: int) -> dict[str, Any]:
    return specification(sam(model_id="sam3/".ljust(length, "m")))


def many_mapped_names(count: int) -> dict[str, Any]:
    return specification(sam(class_mapping={str(number): "a" for number in range(count)}))


def many_colours(count: int) -> dict[str, Any]:
    return specification(sam(), polygons(custom_colors=["#fff"] * count))


@pytest.mark.parametrize(
    ("made", "most"),
    [
        (many_outputs, MAX_OUTPUTS),
        (many_inputs, MAX_INPUTS),
        (long_step_name, MAX_NAME),
        (long_input_name, MAX_NAME),
        (long_output_name, MAX_NAME),
        (long_class_name, MAX_CLASS_NAME),
        (long_mapped_name, MAX_NAME),
        (long_model_id, MAX_NAME),
        (many_mapped_names, MAX_MAPPED_CLASSES),
        (many_colours, MAX_COLOURS),
    ],
)
def test_so_much_and_no_more_which_is_named(made: Any, most: int) -> None:
    assert compiled(made(most))

    error = refused(made(most + 1))

    assert (error.status, error.body["error_type"]) == (400, "WorkflowSyntaxError")
    assert str(most) in error.body["inner_error_message"]


def test_a_selector_that_no_name_is_as_long_as_is_refused_unread() -> None:
    for document in (
        specification(outputs=(output("$inputs." + "i" * 10**6),)),
        specification(sam(images="$inputs." + "i" * 10**6)),
        specification(sam(), polygons(predictions="$steps." + "i" * 10**6)),
        specification(sam(), crops(predictions="$steps." + "i" * 10**6)),
    ):
        assert "512" in refused(document).body["inner_error_message"]


LONG = "x" * 10**6
WRONG: dict[str, dict[str, Any]] = {
    "steps": specification(*[{"type": "?", "name": LONG}] * 20_000),
    "outputs": specification(outputs=({"type": "JsonField", "name": 3},) * 20_000),
    "inputs": specification(inputs=({"type": "WorkflowImage"},) * 20_000),
    "64 outputs": specification(outputs=({},) * MAX_OUTPUTS),
    "64 steps": {**specification(), "steps": [None] * MAX_STEPS},
    "input type": specification(inputs=({"type": LONG, "name": "a"},) * MAX_INPUTS),
    "input name twice": specification(inputs=(IMAGE, IMAGE | {"name": LONG})),
    "version": specification(version=LONG),
    "block type": specification(sam(type=LONG)),
    "block name": specification(sam(name=LONG, threshold=7)),
    "block name, unknown input": specification(sam(name=LONG, confidence="$inputs.x")),
    "unknown input": specification(sam(confidence="$inputs." + "x" * 10**6)),
    "model": specification(sam(model_id=LONG)),
    "classes": specification(sam(class_names=[7] * 20_000)),
    "class string": specification(sam(class_names="a," * 20_000)),
    "mapping": specification(sam(class_mapping={str(n): n for n in range(20_000)})),
    "1000 mapped": specification(sam(class_mapping={LONG + str(n): n for n in range(100)})),
    "confidences": specification(sam(per_class_confidence=["?"] * 20_000)),
    "colours": specification(sam(), polygons(custom_colors=["?"] * 20_000)),
    "256 colours": specification(sam(), polygons(custom_colors=["?"] * MAX_COLOURS)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_refusal_is_short_however_much_is_wrong(name: str) -> None:
    assert refused(WRONG[name]).status in (400, 404)


def test_many_faults_of_one_step_are_not_all_told() -> None:
    error = refused(WRONG["256 colours"])

    assert len(error.body["blocks_errors"]) == 50
    assert len(error.body["inner_error_message"].splitlines()) == 50


def test_crops_of_crops_are_made_but_no_crops_of_those() -> None:
    found = [sam(name=f"sam{depth}", images=f"$steps.crop{depth}.crops") for depth in (1, 2)]
    cut = [
        crops(name=f"crop{depth + 1}", image=image, predictions=f"$steps.sam{depth}.predictions")
        for depth, image in enumerate(["$inputs.image", "$steps.crop1.crops", "$steps.crop2.crops"])
    ]

    twice = compiled(specification(sam(name="sam0"), cut[0], found[0], cut[1], found[1]))
    error = refused(specification(sam(name="sam0"), cut[0], found[0], cut[1], found[1], cut[2]))

    assert twice.steps[-1].lineage == ("crop1", "crop2")
    assert (error.status, error.body["error_type"]) == (400, "ExecutionGraphStructureError")
    assert error.body["blocks_errors"][0]["block_id"] == "crop3"


def test_a_thousand_crops_of_crops_are_refused_like_any_other_long_workflow() -> None:
    chain = [
        crops(name=f"crop{n}", image=f"$steps.crop{n - 1}.crops")
        | {"predictions": f"$steps.crop{n - 1}.predictions"}
        for n in range(1, 1001)
    ]
    for steps in (chain, chain[: MAX_STEPS - 2]):
        assert refused(specification(sam(), crops(name="crop0"), *steps)).status == 400


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 200, 100_000])
def test_values_nested_deeper_than_json_can_follow_are_refused(levels: int) -> None:
    by_default = specification(inputs=(IMAGE, parameter("p", default_value=nested(levels))))
    given = specification(inputs=(IMAGE, parameter("p")))

    for error in (refused(by_default), refused(given, p=nested(levels))):
        assert (error.status, error.body["error_type"]) == (400, "RuntimeInputError")
        assert str(MAX_LEVELS) in error.body["message"]
    assert compiled(given, p=nested(MAX_LEVELS))
