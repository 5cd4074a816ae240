"""What the bodies of single-image requests have in common. Unknown fields are ignored."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticKnownError

from domain.workflows.limits import MAX_LEVELS, is_too_deep

_SURROGATES = re.compile("[\ud800-\udfff]")
_LARGEST_COORDINATE = 1e9


def _encodable(text: str) -> str:
    if not text.isascii() and _SURROGATES.search(text):
        raise ValueError("text must not hold lone surrogates")
    return text


def _coordinate(value: float) -> float:
    if not abs(value) <= _LARGEST_COORDINATE:
        raise ValueError(f"must be a number between {-1e9:.0f} and {1e9:.0f}")
    return value


def sendable(value: Any) -> Any:
    """JSON of any form, as long as UTF-8 and JSON proper can say it, and whoever reads it next can
    follow it down."""
    if is_too_deep(value):
        raise ValueError(f"lists and objects may be nested {MAX_LEVELS} deep")
    rest = [value]
    while rest:
        entry = rest.pop()
        if isinstance(entry, str):
            _encodable(entry)
        elif isinstance(entry, float) and not math.isfinite(entry):
            raise ValueError("numbers must be finite")
        elif isinstance(entry, dict):
            rest += [*entry.keys(), *entry.values()]
        elif isinstance(entry, list):
            rest += entry
    return value


Text = Annotated[str, AfterValidator(_encodable)]
ImageId = Annotated[
    Text, Field(max_length=1024, description="Names the image from now on, for this key alone")
]
Coordinate = Annotated[float, AfterValidator(_coordinate)]
JsonObject = Annotated[dict[str, Any], AfterValidator(sendable)]


class Document(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Part(Document):
    """An object inside a body."""

    @model_validator(mode="before")
    @classmethod
    def _is_object(cls, value: Any) -> Any:
        """FastAPI validates with `from_attributes`, which would take, and say, something else."""
        if not isinstance(value, dict | cls):
            raise PydanticKnownError("model_type", {"class_name": cls.__name__})
        return value


class ImageDocument(Part):
    """An image, by its bytes or its address."""

    type: str = Field(description="`base64` or `url`, in any case", examples=["base64", "url"])
    value: Any = Field(
        None,
        description="Base64 of the file, with or without a data URI's prefix, or an https address",
    )


class Polygons(BaseModel):
    """Of an instance: one list of [x, y] for each of its outer contours."""

    masks: list[list[list[int]]]
    confidence: float
    format: Literal["polygon"]


class RleDocument(BaseModel):
    """COCO's compressed run lengths; `size` is [height, width]."""

    size: list[int]
    counts: str


class RleMask(BaseModel):
    masks: RleDocument
    confidence: float
    format: Literal["rle"]


Prediction = Polygons | RleMask
