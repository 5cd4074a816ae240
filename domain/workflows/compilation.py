"""From a specification and the values of its inputs to a plan, or to what is wrong with it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import ValidationError

from domain.workflows.blocks import BLOCKS, SUPPORTED, Block, Kind, Sam3
from domain.workflows.errors import (
    BlockError,
    duplicated_name,
    input_error,
    missing_reference,
    syntax_error,
    unknown_model,
    wrong_reference,
    wrong_structure,
)
from domain.workflows.images import check_image_inputs
from domain.workflows.limits import MAX_CROPS_OF_CROPS, MAX_LEVELS, is_too_deep
from domain.workflows.plan import Lineage, Plan, PlannedOutput, Step, Value
from domain.workflows.selectors import EVERYTHING, FromInput, FromStep, Source, parse_selector
from domain.workflows.specification import (
    ImageInput,
    Output,
    ParameterInput,
    read_specification,
    readable,
)

BASE_MODELS = "sam3/"  # what all names of the one model begin with


def compile_workflow(specification: object, inputs: Mapping[str, Any]) -> Plan:
    """Check a workflow and put its steps in order.

    `inputs` has the values of parameters and images; what stands for an image may be anything but
    null, as only lists are told from single ones. Undeclared inputs are ignored.

    Raises WorkflowError, with the body for the client: a block, an input type or a version that is
    not supported; a missing or wrong field; a name twice; a selector to what does not exist or is
    of another kind; steps in a circle; images that are missing, an empty or a nested list; a
    parameter's value that a block refuses; an unknown model; more than
    domain.workflows.limits allow.
    """
    read = read_specification(specification)
    images = tuple(part.name for part in read.inputs if isinstance(part, ImageInput))
    known = _Inputs(images, _parameters(read.inputs, inputs))
    blocks = _by_name(_read_block(place, step, known) for place, step in enumerate(read.steps))
    steps = _ordered(blocks, known)
    outputs = tuple(
        _plan_output(output, steps=steps, blocks=blocks, inputs=known) for output in read.outputs
    )
    return Plan(
        images=images,
        parameters=tuple(known.parameters),
        batch_size=check_image_inputs(images, inputs),
        steps=tuple(steps.values()),
        outputs=outputs,
    )


@dataclass(frozen=True, slots=True)
class _Inputs:
    images: tuple[str, ...]
    parameters: Mapping[str, Any]

    def __contains__(self, name: str) -> bool:
        return name in self.images or name in self.parameters


def _parameters(
    declared: Iterable[ImageInput | ParameterInput], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    values = {
        part.name: inputs.get(part.name, part.default_value)
        for part in declared
        if isinstance(part, ParameterInput)
    }
    for name, value in values.items():
        if is_too_deep(value):
            raise input_error(f"The value of `{name}` is nested more than {MAX_LEVELS} deep")
    return values


# -- one step -------------------------------------------------------------------------------------


def _read_block(place: int, step: Mapping[str, Any], inputs: _Inputs) -> Block:
    model = BLOCKS[_block_type(place, step)]
    filled, from_inputs = dict(step), {}
    for field in model.parameters() & step.keys():
        source = parse_selector(step[field])
        if source is not None:
            filled[field] = _parameter(source, inputs, _where(step, field, step[field]))
            from_inputs[field] = step[field]
    try:
        block = model.model_validate(filled)
    except ValidationError as error:
        raise _refused(error, step, from_inputs, place=place) from None
    if isinstance(block, Sam3) and not block.model_id.startswith(BASE_MODELS):
        details = f"No model `{block.model_id}` here; the base model is `sam3/sam3_final`."
        raise unknown_model(BlockError(block.name, block.type, "model_id", details))
    return block


def _block_type(place: int, step: Mapping[str, Any]) -> str:
    block_type = step.get("type")
    if isinstance(block_type, str) and block_type in BLOCKS:
        return block_type
    shown = repr(block_type[:100]) if isinstance(block_type, str) else "None"
    details = f"block type {shown} is not supported; supported are {', '.join(SUPPORTED)}"
    name = step.get("name")
    where = BlockError(
        name if isinstance(name, str) else None,
        block_type if isinstance(block_type, str) else None,
        "type",
        details,
    )
    raise syntax_error(f"steps.{place}.type: {details}", [where])


def _parameter(source: Source, inputs: _Inputs, where: BlockError) -> Any:
    if isinstance(source, FromStep):
        raise wrong_reference(f"`{where.property_name}` takes no output of a step", where)
    if source.name in inputs.images:
        raise wrong_reference(f"`{where.property_name}` takes no image", where)
    if source.name not in inputs.parameters:
        raise missing_reference(f"$inputs.{source.name}", where)
    return inputs.parameters[source.name]


def _refused(
    error: ValidationError, step: Mapping[str, Any], from_inputs: Mapping[str, str], *, place: int
) -> Exception:
    """A value that a request brought is its inputs' fault, all else the specification's."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    wheres = [_where(step, str((*one["loc"], "")[0]) or None, one["msg"]) for one in details]
    for where in wheres:
        selector = from_inputs.get(where.property_name or "")
        if selector is not None:
            return input_error(
                f"The value of {selector} does not suit `{where.property_name}` of step "
                f"`{where.block_id}`: {where.property_details}"
            )
    return syntax_error(readable(error, prefix=f"steps.{place}."), wheres)


def _where(step: Mapping[str, Any], field: str | None, details: Any) -> BlockError:
    name = step.get("name")
    return BlockError(name if isinstance(name, str) else None, step["type"], field, str(details))


# -- steps among each other -----------------------------------------------------------------------


def _by_name(blocks: Iterable[Block]) -> dict[str, Block]:
    named: dict[str, Block] = {}
    for block in blocks:
        if block.name in named:
            raise duplicated_name("step", block.name)
        named[block.name] = block
    return named


def _ordered(blocks: Mapping[str, Block], inputs: _Inputs) -> dict[str, Step]:
    """Steps by name, each after those it takes something of."""
    sources = {name: _sources(block, blocks, inputs) for name, block in blocks.items()}
    needs = {
        name: [source.step for source in found.values() if isinstance(source, FromStep)]
        for name, found in sources.items()
    }
    steps: dict[str, Step] = {}
    for name in _in_order(needs):
        steps[name] = _plan_step(blocks[name], sources[name], steps)
    return steps


def _in_order(needs: Mapping[str, Sequence[str]]) -> list[str]:
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = [str(name) for name in error.args[1]]
        raise wrong_structure(
            f"Steps need each other in a circle: {' -> '.join(circle)}",
            [BlockError(name) for name in circle[1:]],
        ) from None


def _sources(
    block: Block, blocks: Mapping[str, Block], inputs: _Inputs
) -> dict[str, FromInput | FromStep]:
    """By field: what a step takes from inputs and other steps, checked to be of the kind."""
    fields = {name: kind for name, kind in block.TAKES.items() if name in type(block).model_fields}
    return {
        field: _source(field, kind, block=block, blocks=blocks, inputs=inputs)
        for field, kind in fields.items()
    }


def _source(
    field: str, kind: Kind, *, block: Block, blocks: Mapping[str, Block], inputs: _Inputs
) -> FromInput | FromStep:
    selector: str = getattr(block, field)
    source = parse_selector(selector)
    where = BlockError(block.name, block.type, field, f"{selector} does not suit `{field}`")
    if source is None:
        details = f"{field} must be a selector such as $inputs.NAME or $steps.NAME.OUTPUT"
        raise syntax_error(
            f"step {block.name}: {details}", [BlockError(block.name, block.type, field, details)]
        )
    if _kind(source, selector, blocks=blocks, inputs=inputs, where=where) is not kind:
        raise wrong_reference(f"{selector} of step `{block.name}` is not an {kind}", where)
    return source


def _kind(
    source: Source,
    selector: str,
    *,
    blocks: Mapping[str, Block],
    inputs: _Inputs,
    where: BlockError,
) -> Kind | None:
    if isinstance(source, FromInput):
        if source.name not in inputs:
            raise missing_reference(selector, where)
        return Kind.IMAGE if source.name in inputs.images else None
    if source.step not in blocks:
        raise missing_reference(selector, where)
    gives = blocks[source.step].GIVES
    if source.output not in gives and source.output != EVERYTHING:
        raise missing_reference(selector, where)
    return gives.get(source.output)


def _plan_step(
    block: Block, sources: Mapping[str, FromInput | FromStep], before: Mapping[str, Step]
) -> Step:
    lineages = {field: _lineage(source, before) for field, source in sources.items()}
    predictions = sources.get("predictions")
    if predictions is not None and lineages["image"] != lineages["predictions"]:
        raise wrong_structure(
            f"Step `{block.name}` takes an image and predictions that do not belong together: one "
            "of them comes from the crops of another step",
            [BlockError(block.name, block.type, "predictions", "other number of results")],
            error_type="StepInputLineageError",
        )
    if block.OPENS and len(lineages["image"]) >= MAX_CROPS_OF_CROPS:
        raise wrong_structure(
            f"Step `{block.name}` makes crops of crops of crops; they may be of crops of an image",
            [BlockError(block.name, block.type, "image", "too many crops of crops")],
        )
    assert not isinstance(predictions, FromInput)
    return Step(block, sources["image"], predictions, lineages["image"])


def _lineage(source: FromInput | FromStep, steps: Mapping[str, Step]) -> Lineage:
    if isinstance(source, FromInput):
        return ()
    step = steps[source.step]
    return (*step.lineage, step.name) if step.block.OPENS else step.lineage


# -- outputs --------------------------------------------------------------------------------------


def _plan_output(
    output: Output, *, steps: Mapping[str, Step], blocks: Mapping[str, Block], inputs: _Inputs
) -> PlannedOutput:
    where = BlockError("$outputs", None, output.name, f"Invalid reference to {output.selector}")
    source = parse_selector(output.selector)
    if source is None:
        details = f"outputs: `{output.name}` has no selector such as $steps.NAME.OUTPUT"
        raise syntax_error(details, [where])
    _kind(source, output.selector, blocks=blocks, inputs=inputs, where=where)
    if isinstance(source, FromInput) and source.name not in inputs.images:
        value = Value(inputs.parameters[source.name])
        return PlannedOutput(output.name, value, (), output.coordinates_system)
    return PlannedOutput(output.name, source, _lineage(source, steps), output.coordinates_system)
