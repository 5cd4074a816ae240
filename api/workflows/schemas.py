"""Bodies of /workflows/run and its aliases."""

from typing import Any

from pydantic import BaseModel, Field

from api.interactive.documents import Document, JsonObject, Text

MAX_EXCLUDED = 256  # names, known or not


class WorkflowBody(Document):
    """A workflow and what it runs on."""

    specification: JsonObject = Field(description="`version`, `inputs`, `steps`, `outputs`")
    inputs: JsonObject = Field(
        description="By the inputs' names; an image is a list, an object with `value`, or a text: "
        "base64 or an https address"
    )
    excluded_fields: list[Text] | None = Field(
        None, max_length=MAX_EXCLUDED, description="Outputs to leave out"
    )


class WorkflowAnswer(BaseModel):
    outputs: list[dict[str, Any]] = Field(description="One for each image of a batch, in order")
    profiler_trace: list[Any] = Field(description="Always empty")


class WorkflowRefusal(BaseModel):
    """Why a workflow cannot run; steps at fault are named in `blocks_errors`."""

    message: str
    error_type: str | None = None
    context: str | None = None
    inner_error_type: str | None = None
    inner_error_message: str | None = None
    blocks_errors: list[dict[str, Any]] | None = None
