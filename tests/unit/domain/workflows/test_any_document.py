"""Whatever a client sends: it compiles, or is refused with a body that JSON can carry."""

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.workflows import Plan, WorkflowError, compile_workflow, image_values, with_file_numbers
from domain.workflows.blocks import BLOCKS
from tests.unit.domain.workflows.documents import (
    IMAGE,
    crops,
    output,
    parameter,
    polygons,
    sam,
    specification,
)

DOCUMENT = specification(
    sam(confidence="$inputs.confidence", per_class_confidence=[0.5, 0.5], class_mapping={"a": "b"}),
    polygons(custom_colors=["#fff"], color_palette="Matplotlib Tab10"),
    crops(mask_opacity=0.5, background_color=[1, 2, 3]),
    {"type": "AbsoluteStaticCrop", "name": "cut", "image": "$inputs.image"}
    | {"x_center": 1, "y_center": 2, "width": 3, "height": 4},
    {"type": "LabelVisualization", "name": "label", "text": "Class", "text_color": "WHITE"}
    | {"image": "$steps.cut.crops", "predictions": "$steps.sam.predictions"},
    inputs=(IMAGE, parameter("confidence", default_value=0.5)),
    outputs=(output("$steps.crop.*"), output("$inputs.confidence", "confidence")),
)
INPUTS = {"image": [{"type": "base64", "value": "aaaa"}, "bbbb"], "confidence": 0.25}

SELECTORS = ["$inputs.image", "$inputs.confidence", "$steps.sam.predictions", "$steps.crop.crops"]
OTHERS = ["", "$steps.sam.*", "$inputs.", "sam", "crop", "image", "CUSTOM", "1.99", "\ud800", "\0"]
WORDS = st.sampled_from([*SELECTORS, *OTHERS, *BLOCKS])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), WORDS)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text() | WORDS, inner, max_size=3)
    ),
    max_leaves=6,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: list[tuple[Any, Any]] = []
    if isinstance(node, dict):
        items = list(node.items())
    if isinstance(node, list):
        items = list(enumerate(node))
    return [path] + [found for key, value in items for found in places(value, (*path, key))]


def replaced(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.copy(node)
    changed[path[0]] = replaced(node[path[0]], path[1:], value)
    return changed


@st.composite
def requests(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """A workflow that runs, with up to three places changed into anything."""
    request: dict[str, Any] = {"specification": DOCUMENT, "inputs": INPUTS}
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([path for path in places(request) if len(path) > 1]))
        request = replaced(request, path, draw(ANYTHING))
    return request["specification"], request["inputs"]


@settings(max_examples=400)
@given(requests())
def test_a_workflow_compiles_or_is_refused(request: tuple[Any, dict[str, Any]]) -> None:
    document, inputs = request

    plan = compiled_or_refused(document, inputs)

    if isinstance(plan, WorkflowError):
        assert plan.status in (400, 404)
        assert json.dumps(plan.body, ensure_ascii=False, allow_nan=False).encode()
    else:
        numbered = with_file_numbers(plan, inputs, range(100))
        again = compile_workflow(document, numbered)
        assert names(again) == names(plan)
        assert again.batch_size == plan.batch_size


def compiled_or_refused(document: Any, inputs: dict[str, Any]) -> Plan | WorkflowError:
    try:
        plan = compile_workflow(document, inputs)
        image_values(plan, inputs)
    except WorkflowError as error:
        return error
    return plan


def names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


def test_the_workflow_that_is_changed_compiles() -> None:
    assert names(compile_workflow(DOCUMENT, INPUTS)) == ["sam", "cut", "draw", "crop", "label"]
