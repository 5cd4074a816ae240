"""Bodies of /sam3/*."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

from api.interactive.documents import (
    Coordinate,
    Document,
    ImageDocument,
    ImageId,
    Part,
    Prediction,
    Text,
)

MAX_CONCEPTS = 16
MAX_OBJECTS = 1000
MAX_POINTS = 1000
MAX_POINTS_TOGETHER = 10_000  # of all prompts
MAX_TEXT = 4096  # characters; the model reads far fewer, and cuts off the rest
BASE_MODEL = "sam3/sam3_final"
_PROMPT_ENTRY = "Invalid prompt entry; expected dict or Sam2Prompt instance"


def _probability(value: float | None, info: ValidationInfo) -> float | None:
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"{info.field_name} must be between 0.0 and 1.0")
    return value


def _check_total(prompts: Any, field: str, most: int) -> None:
    """Before each of them is looked at, and possibly found wrong."""
    entries = prompts if isinstance(prompts, list) else []
    lists = [entry.get(field) for entry in entries if isinstance(entry, dict)]
    total = sum(len(found) for found in lists if isinstance(found, list))
    if total > most:
        raise ValueError(f"All prompts may have {most} {field} together, not {total}")


class Box(Part):
    """From its top left corner, in pixels of the image."""

    x: Coordinate
    y: Coordinate
    width: Coordinate
    height: Coordinate


class BoxXYXY(Part):
    """By two corners, in pixels of the image."""

    x0: Coordinate
    y0: Coordinate
    x1: Coordinate
    y1: Coordinate


AnyBox = Annotated[Box | BoxXYXY, Field(union_mode="left_to_right")]


class Concept(Part):
    """What to look for: words, boxes around examples, or both."""

    type: str | None = Field(None, description="`visual` wants at least one box; else ignored")
    text: Text | None = Field(None, max_length=MAX_TEXT)
    output_prob_thresh: float | None = Field(
        None, description="Between 0 and 1; instead of the request's"
    )
    boxes: list[AnyBox] | None = Field(None, validate_default=True, max_length=MAX_OBJECTS)
    box_labels: list[int | bool] | None = Field(
        None,
        max_length=MAX_OBJECTS,
        description="For each box, whether it shows what is sought (1) or not (0); all 1 if absent",
    )

    _check_threshold = field_validator("output_prob_thresh")(_probability)

    @field_validator("boxes")
    @classmethod
    def _check_boxes(cls, boxes: list[Any] | None, info: ValidationInfo) -> list[Any] | None:
        if info.data.get("type") == "visual" and not boxes:
            raise ValueError("Visual prompt requires at least one box")
        return boxes

    @field_validator("box_labels")
    @classmethod
    def _check_labels(cls, labels: list[Any] | None, info: ValidationInfo) -> list[Any] | None:
        boxes = info.data.get("boxes")
        if labels is not None and (boxes is None or len(boxes) != len(labels)):
            raise ValueError("box_labels must match boxes length when provided")
        return labels


class _Unsent:
    """No image in the body."""


def _unsent() -> Any:
    return _Unsent()


class ImageBody(Document):
    """`image` may be left out, or be `{"type": "base64"}`, where `image_id` names one."""

    image_id: ImageId | None = None
    image: ImageDocument = Field(default_factory=_unsent, validate_default=True)

    @field_validator("image", mode="before")
    @classmethod
    def _check_image(cls, image: Any, info: ValidationInfo) -> Any:
        if not isinstance(image, _Unsent):
            return image
        if info.data.get("image_id") is None:
            raise PydanticKnownError("missing")
        return {"type": "base64"}


class ConceptBody(ImageBody):
    """All instances of each concept in the image."""

    prompts: list[Concept] = Field(min_length=1, json_schema_extra={"maxItems": MAX_CONCEPTS})
    format: Literal["polygon", "json", "rle", ""] | None = Field(
        "polygon", description="`json`, null and the empty text mean `polygon`"
    )
    output_prob_thresh: float | None = Field(0.5, description="Between 0 and 1; null means 0.5")
    nms_iou_threshold: float | None = Field(
        None, description="Between 0 and 1; of masks that overlap more, the best one stays"
    )
    model_id: str = Field(BASE_MODEL, description="`sam3/...`, or the name of the default model")

    _check_thresholds = field_validator("output_prob_thresh", "nms_iou_threshold")(_probability)

    @field_validator("prompts", mode="before")
    @classmethod
    def _check_count(cls, prompts: Any) -> Any:
        if isinstance(prompts, list) and len(prompts) > MAX_CONCEPTS:
            found = f"got {len(prompts)}"
            raise ValueError(f"Exceeded SAM3_MAX_PROMPT_BATCH_SIZE={MAX_CONCEPTS}: {found}")
        _check_total(prompts, "boxes", MAX_OBJECTS)
        _check_total(prompts, "box_labels", MAX_OBJECTS)
        return prompts


class CenteredBox(Part):
    """Around its centre, in pixels of the image."""

    x: Coordinate
    y: Coordinate
    width: Coordinate
    height: Coordinate


class PointDocument(Part):
    """A click, in pixels of the image."""

    x: Coordinate
    y: Coordinate
    positive: bool = Field(description="Whether it lies on the object")


class ObjectPrompt(Part):
    """One object: clicks, a box, or both."""

    box: CenteredBox | None = None
    points: list[PointDocument] | None = Field(None, max_length=MAX_POINTS)


class ObjectPrompts(Part):
    """Also accepted: the bare list, or a single prompt."""

    prompts: list[ObjectPrompt] | None = Field(None, max_length=MAX_OBJECTS)

    @model_validator(mode="before")
    @classmethod
    def _accept_other_forms(cls, value: Any) -> Any:
        if isinstance(value, dict) and value and "prompts" not in value:
            value = [value]
        given = value.get("prompts") if isinstance(value, dict) else value
        _check_total(given, "points", MAX_POINTS_TOGETHER)
        if isinstance(given, list) and not all(isinstance(entry, dict) for entry in given):
            raise ValueError(_PROMPT_ENTRY)
        if not isinstance(value, list):
            return value
        entries = value[: MAX_OBJECTS + 1]
        return {"prompts": [ObjectPrompt.model_validate(entry) for entry in entries]}


class VisualBody(ImageBody):
    """One mask for each prompt, and one if there is no prompt."""

    prompts: ObjectPrompts | None = Field(
        None,
        json_schema_extra={
            "anyOf": [
                {"$ref": "#/components/schemas/ObjectPrompts"},
                {"$ref": "#/components/schemas/ObjectPrompt"},
                {"type": "array", "items": {"$ref": "#/components/schemas/ObjectPrompt"}},
                {"type": "null"},
            ]
        },
    )
    format: Literal["json", "polygon", "rle", "binary"] | None = Field(
        "json", description="`json` and null mean `polygon`; `binary` is an npz file"
    )
    multimask_output: bool = Field(True, description="Choose the best of three masks, or make one")
    save_logits_to_cache: bool = Field(False, description="Keep the mask for refinement by clicks")
    load_logits_from_cache: bool = Field(False, description="Refine a mask kept for fewer clicks")


class EmbedBody(Document):
    """Look at an image now, so that prompts on it are answered quickly."""

    image: ImageDocument
    image_id: ImageId | None = None


class Echo(BaseModel):
    prompt_index: int
    type: Literal["text", "visual"]
    text: str | None
    num_boxes: int


class PromptResult(BaseModel):
    prompt_index: int
    echo: Echo
    predictions: list[Prediction]


class ConceptAnswer(BaseModel):
    """An entry for each prompt, in order, also where nothing was found."""

    prompt_results: list[PromptResult]
    time: float = Field(description="Seconds")


class VisualAnswer(BaseModel):
    """An entry for each prompt, in order."""

    predictions: list[Prediction]
    time: float = Field(description="Seconds")


class EmbedAnswer(BaseModel):
    image_id: str = Field(description="As given, else SHA-1 of the decoded pixels")
    time: float = Field(description="Seconds")


class Cleared(BaseModel):
    models: list[Any] = Field(description="Always empty")
