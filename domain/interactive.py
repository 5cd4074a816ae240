"""What the front door asks of the interactive lane, as it travels through the broker, and back.

Everything is checked and resolved by then: thresholds are numbers, boxes are corners in pixels of
the oriented image, images are the bytes of files (`Asked.images` counts in them) or names of
images that the same key has sent before.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Corners = tuple[float, float, float, float]  # x0, y0, x1, y1
MaskFormat = Literal["polygon", "rle", "binary"]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageAsked(Message):
    """`file`: which of the request's files it is. `image_id`: what the caller calls it. With a
    file and an id, the id names that file from then on; with an id alone, the image kept for it.
    `origin`: how the file came, for the words of a refusal."""

    file: int | None = None
    image_id: str | None = None
    origin: Literal["base64", "url"] = "base64"


class ConceptAsked(Message):
    """One prompt of concept segmentation; an instance counts from `threshold` on."""

    text: str
    boxes: tuple[Corners, ...] = ()
    box_labels: tuple[bool, ...] = ()
    threshold: float


class ConceptRequest(Message):
    kind: Literal["concept"] = "concept"
    image: ImageAsked
    prompts: tuple[ConceptAsked, ...]
    echoes: tuple[dict[str, Any], ...]  # what the answer repeats of each prompt
    format: MaskFormat
    nms_iou_threshold: float | None = None


class PointAsked(Message):
    x: float
    y: float
    positive: bool


class ObjectAsked(Message):
    """One prompt of visual segmentation: exactly one mask answers it, even if it says nothing."""

    points: tuple[PointAsked, ...] = ()
    box: Corners | None = None


class VisualRequest(Message):
    kind: Literal["visual"] = "visual"
    image: ImageAsked
    prompts: tuple[ObjectAsked, ...]
    multimask_output: bool
    format: MaskFormat
    save_logits: bool = False
    load_logits: bool = False


class EmbedRequest(Message):
    kind: Literal["embed"] = "embed"
    image: ImageAsked


class WorkflowRequest(Message):
    """`specification` has passed domain.workflows. `inputs` are the parameters' values and, for
    an image input, a number of a file or a list of them."""

    kind: Literal["workflow"] = "workflow"
    specification: dict[str, Any]
    inputs: dict[str, Any]
    excluded_fields: tuple[str, ...] = ()


Asked = Annotated[
    ConceptRequest | VisualRequest | EmbedRequest | WorkflowRequest, Field(discriminator="kind")
]
ASKED: TypeAdapter[Asked] = TypeAdapter(Asked)


class LaneRequest(Message):
    """`key_id` is the id of the API key: whatever is kept is kept for it alone. Until when somebody
    waits for the answer is known to the broker alone: hosts may disagree about the time."""

    id: str
    key_id: str
    reply_to: str
    asked: Asked
    traceparent: str | None = None  # W3C Trace Context of the HTTP request


class LaneAnswer(Message):
    """Travels in front of its body. `time` and all else that a caller sees is in the body."""

    id: str
    status: int = 200
    media_type: str = "application/json"
