"""Prompts and items as JSON: one shape for requests, manifests, shard lists and the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import to_json

from domain.geometry import Box, Point
from domain.items import Item
from domain.prompts import MAX_ITEM_PROMPTS, ConceptPrompt, MaskPrompt, Prompt

IMAGE_FIELDS = ("image", "uri", "url", "file_name")  # what a manifest may call it
MAX_BOXES = 64
MAX_POINTS = 64
MAX_TEXT = 1024
MAX_IMAGE_REFERENCE = 4096


class Document(BaseModel):
    """Unknown fields are refused: a mistyped `treshold` must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*")
    @classmethod
    def _refuse_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("NUL characters are not allowed")  # PostgreSQL cannot store them
        return value


class BoxDocument(Document):
    """`{x, y, width, height}` from the top left corner, or `{x0, y0, x1, y1}`; pixels."""

    x0: float
    y0: float
    x1: float
    y1: float

    @model_validator(mode="before")
    @classmethod
    def _accept_sizes(cls, value: Any) -> Any:
        if not isinstance(value, dict) or set(value) != {"x", "y", "width", "height"}:
            return value
        try:
            box = Box.from_xywh(*(float(value[k]) for k in ("x", "y", "width", "height")))
        except (TypeError, OverflowError) as error:
            raise ValueError("box sides must be numbers") from error
        return {"x0": box.x0, "y0": box.y0, "x1": box.x1, "y1": box.y1}

    @model_validator(mode="after")
    def _check(self) -> "BoxDocument":
        self.to_box()
        return self

    def to_box(self) -> Box:
        return Box(self.x0, self.y0, self.x1, self.y1)


class PointDocument(Document):
    x: float
    y: float
    positive: bool = True

    def to_point(self) -> Point:
        return Point(self.x, self.y, self.positive)


class JobPromptDocument(Document):
    """A concept to find in every image."""

    text: str = Field(max_length=MAX_TEXT, examples=["red circle"])
    class_name: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    threshold: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> "JobPromptDocument":
        self.to_prompt()
        return self

    def to_prompt(self) -> ConceptPrompt:
        return ConceptPrompt(self.text, class_name=self.class_name, threshold=self.threshold)


def _labels_as_booleans(value: Any) -> Any:
    """SAM 3 clients write 1 and 0."""
    if isinstance(value, list | tuple):
        return [bool(v) if v in (0, 1) else v for v in value]
    return value


class ItemPromptDocument(Document):
    """A prompt for one image: a concept (`text`, exemplar `boxes`, or both), or one object to
    be turned into a mask (`box`, `points`, or both)."""

    text: str | None = Field(None, max_length=MAX_TEXT)
    boxes: list[BoxDocument] = Field(default_factory=list, max_length=MAX_BOXES)
    box_labels: Annotated[list[bool] | None, BeforeValidator(_labels_as_booleans)] = None
    box: BoxDocument | None = None
    points: list[PointDocument] = Field(default_factory=list, max_length=MAX_POINTS)
    class_name: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    threshold: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> "ItemPromptDocument":
        self.to_prompt()
        return self

    def to_prompt(self) -> Prompt:
        if self.box is None and not self.points:
            return self._concept()
        if self.text is not None or self.boxes or self.box_labels is not None:
            raise ValueError("give text and boxes for a concept, or box and points for one mask")
        return MaskPrompt(
            self.box.to_box() if self.box else None,
            tuple(point.to_point() for point in self.points),
            self.class_name,
            self.threshold,
        )

    def _concept(self) -> ConceptPrompt:
        labels = self.box_labels if self.box_labels is not None else [True] * len(self.boxes)
        boxes = tuple(box.to_box() for box in self.boxes)
        return ConceptPrompt(self.text, boxes, tuple(labels), self.class_name, self.threshold)


class ManifestLine(Document):
    """One image of a manifest, as the user writes it."""

    image: str = Field(
        min_length=1,
        max_length=MAX_IMAGE_REFERENCE,
        validation_alias=AliasChoices(*IMAGE_FIELDS),
        description="An s3:// or https:// address, or a path relative to the manifest",
    )
    custom_id: str | None = Field(None, max_length=1024)
    prompts: list[ItemPromptDocument] = Field(default_factory=list, max_length=MAX_ITEM_PROMPTS)


class ItemDocument(ManifestLine):
    """An item of a shard's image list."""

    index: int
    uri: str
    image: str

    def to_item(self) -> Item:
        prompts = tuple(prompt.to_prompt() for prompt in self.prompts)
        return Item(self.index, self.image, self.uri, self.custom_id, prompts)


@dataclass(slots=True)
class NewItem:
    """An item on its way into a shard's list, made of parts that have been checked: what
    `ItemDocument` reads, at a fifth of what it costs to make one."""

    index: int
    image: str
    uri: str
    custom_id: str | None = None
    prompts: Sequence[ItemPromptDocument] = ()

    def to_line(self) -> bytes:
        fields: dict[str, Any] = {"index": self.index, "image": self.image, "uri": self.uri}
        if self.custom_id is not None:
            fields["custom_id"] = self.custom_id
        if self.prompts:
            fields["prompts"] = [
                prompt.model_dump(exclude_defaults=True) for prompt in self.prompts
            ]
        return to_json(fields)
