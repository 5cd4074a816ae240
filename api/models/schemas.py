"""Models as JSON."""

from pydantic import BaseModel, Field


class ModelLimitsDocument(BaseModel):
    text_tokens: int = Field(description="Of one prompt, with start and end token")
    queries: int = Field(description="Instances per prompt and image that can be found")
    image_size: int = Field(description="Side of the square that images are resized to, pixels")


class ModelDocument(BaseModel):
    name: str
    is_default: bool
    limits: ModelLimitsDocument | None = Field(
        description="Null until a worker has loaded the model"
    )


class ModelList(BaseModel):
    data: list[ModelDocument]
