"""Why a workflow cannot run, in the shape in which Roboflow's API says so. Never a traceback."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

COMPILING = "workflow_compilation"
INPUTS = "workflow_execution | runtime_input_validation"
MAX_SHOWN = 50  # faults of one request
_MAX_MESSAGE = 16_384  # characters; so many as the faults shown have
_MAX_DETAIL = 1000


@dataclass(frozen=True, slots=True)
class BlockError:
    """Which property of which step is wrong. `block_id` is the step's name."""

    block_id: str | None
    block_type: str | None = None
    property_name: str | None = None
    property_details: str | None = None


class WorkflowError(Exception):
    """A workflow that is refused with `status` and the JSON object `body`."""

    def __init__(
        self,
        error_type: str,
        message: str,
        *,
        context: str,
        status: int = 400,
        inner_error: tuple[str, str] | None = None,
        blocks: Sequence[BlockError] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        inner_type, inner_message = inner_error or (None, None)
        self.body: dict[str, Any] = {
            "message": _shown(message, _MAX_MESSAGE),
            "error_type": error_type,
            "context": context,
            "inner_error_type": inner_type,
            "inner_error_message": inner_message and _shown(inner_message, _MAX_MESSAGE),
        }
        if blocks is not None:
            self.body["blocks_errors"] = [
                {key: text and _shown(text, _MAX_DETAIL) for key, text in asdict(block).items()}
                for block in blocks[:MAX_SHOWN]
            ]


def _shown(text: str, most: int) -> str:
    """Messages quote what clients wrote, which may be long, and JSON can write half characters
    that UTF-8 cannot."""
    return text[:most].encode(errors="replace").decode()


def syntax_error(details: str, blocks: Sequence[BlockError] = ()) -> WorkflowError:
    return WorkflowError(
        "WorkflowSyntaxError",
        "Could not parse workflow definition. Details provided in inner error.",
        context=f"{COMPILING} | workflow_definition_parsing",
        inner_error=("ValidationError", details),
        blocks=blocks,
    )


def duplicated_name(kind: str, name: str) -> WorkflowError:
    return WorkflowError(
        "DuplicatedNameError",
        f"Found duplicated {kind} name: `{name}`",
        context=f"{COMPILING} | specification_validation",
    )


def unsupported_version(version: str, supported: str) -> WorkflowError:
    return WorkflowError(
        "NotSupportedExecutionEngineError",
        f"Workflow version `{version}` is not supported here; {supported} are.",
        context=f"{COMPILING} | engine_initialisation",
    )


def missing_reference(selector: str, where: BlockError) -> WorkflowError:
    return WorkflowError(
        "InvalidReferenceTargetError",
        f"Workflow references `{selector}`, which does not exist.",
        context=f"{COMPILING} | execution_graph_construction",
        blocks=[where],
    )


def wrong_reference(message: str, where: BlockError) -> WorkflowError:
    """What the selector points at exists, but is not of the kind that is needed there."""
    return WorkflowError(
        "ReferenceTypeError",
        message,
        context=f"{COMPILING} | execution_graph_construction",
        blocks=[where],
    )


def wrong_structure(
    message: str, where: Sequence[BlockError], *, error_type: str = "ExecutionGraphStructureError"
) -> WorkflowError:
    return WorkflowError(
        error_type,
        message,
        context=f"{COMPILING} | execution_graph_construction",
        blocks=where,
    )


def unknown_model(where: BlockError) -> WorkflowError:
    return WorkflowError(
        "ClientCausedStepExecutionError",
        f"Error during execution of step: {where.block_id}. Details: {where.property_details}",
        context="workflow_execution | step_execution",
        status=404,
        blocks=[where],
    )


def too_much(what: str) -> WorkflowError:
    """A workflow that compiles, and whose limits show as it runs."""
    return WorkflowError(
        "WorkflowLimitError",
        f"This workflow is too much for one request: {what}.",
        context="workflow_execution | step_execution",
    )


def input_error(message: str) -> WorkflowError:
    return WorkflowError("RuntimeInputError", message, context=INPUTS)


def image_error(name: str, cause: str) -> WorkflowError:
    """`name` as in ImageValue.name: which input, and which of its images."""
    return input_error(f"Failed to assemble `{name}`. Could not load input image. Cause: {cause}")
