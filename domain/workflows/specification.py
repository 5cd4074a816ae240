"""The document that describes a workflow, as clients write it. Unknown fields are ignored."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from domain.workflows.errors import (
    MAX_SHOWN,
    duplicated_name,
    syntax_error,
    unsupported_version,
)
from domain.workflows.limits import MAX_INPUTS, MAX_OUTPUTS, MAX_STEPS, Name, Selector, at_most

_MAX_LINE = 300  # characters
_NEWEST_MINOR = 15  # of version 1 of Roboflow's engine, whose rules are followed here


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ImageInput(Part):
    type: Literal["WorkflowImage", "InferenceImage"]
    name: Name


class ParameterInput(Part):
    type: Literal["WorkflowParameter", "InferenceParameter"]
    name: Name
    default_value: Any = None


class Output(Part):
    """`coordinates_system` says of what detections inside a crop speak: of the crop (`own`) or
    of the image that came in (`parent`)."""

    type: Literal["JsonField"]
    name: Name
    selector: Selector
    coordinates_system: Literal["own", "parent"] = "parent"


class Specification(Part):
    """`steps` are checked one by one, each by its block."""

    version: str
    inputs: Annotated[
        tuple[Annotated[ImageInput | ParameterInput, Field(discriminator="type")], ...],
        at_most(MAX_INPUTS),
    ]
    steps: Annotated[tuple[dict[str, Any], ...], at_most(MAX_STEPS)]
    outputs: Annotated[tuple[Output, ...], at_most(MAX_OUTPUTS)]


def read_specification(document: object) -> Specification:
    """Raises WorkflowError: not of this form, another version, a name twice."""
    try:
        specification = Specification.model_validate(document)
    except ValidationError as error:
        raise syntax_error(readable(error)) from None
    _check_version(specification.version)
    _check_names("input", [part.name for part in specification.inputs])
    _check_names("output", [part.name for part in specification.outputs])
    return specification


def readable(error: ValidationError, *, prefix: str = "") -> str:
    """What is wrong first, a line for each field; without the values, which may be images."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return "\n".join(
        f"{prefix}{'.'.join(map(str, one['loc'])) or 'document'}: {one['msg']}"[:_MAX_LINE]
        for one in details[:MAX_SHOWN]
    )


def _check_version(version: str) -> None:
    """By the rule of semantic versions: of the same major version, no newer than ours."""
    numbers = version.split(".")
    if not all(number.isascii() and number.isdigit() and len(number) < 6 for number in numbers):
        raise unsupported_version(version[:40], _SUPPORTED)
    major, minor = ([int(number) for number in numbers] + [0])[:2]
    if major != 1 or minor > _NEWEST_MINOR or len(numbers) > 3:
        raise unsupported_version(version[:40], _SUPPORTED)


_SUPPORTED = f"1.0 to 1.{_NEWEST_MINOR}"


def _check_names(kind: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise duplicated_name(kind, name)
        seen.add(name)
