"""A job's images as JSON."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field

from api.documents import NextCursor
from api.results.schemas import CocoCategory, CocoRle, ImageError
from domain.results import ImageStatus


class Sort(StrEnum):
    INDEX = "index"
    MOST = "most"
    FEWEST = "fewest"
    LOWEST = "lowest"
    HIGHEST = "highest"
    FAILED = "failed"


Score = Annotated[float | None, Field(description="Of its instances; null where there are none")]


class JobAnnotation(BaseModel):
    """An instance, of whatever score: all are here that the job's `floor` let through."""

    instance: int = Field(description="Counts the image's instances from 0")
    prompt_index: int
    category_id: int
    score: float
    threshold: float | None = Field(description="The prompt's own")
    bbox: tuple[float, float, float, float] = Field(description="x, y, width, height")
    area: int = Field(description="Pixels of the mask")
    segmentation: CocoRle


class JobImage(BaseModel):
    """Sizes are in pixels of the oriented image; 0 where it could not be read so far."""

    image_index: int
    image: str = Field(description="As you wrote it")
    custom_id: str | None
    status: ImageStatus
    error: ImageError | None
    width: int
    height: int
    orientation: int = Field(description="EXIF tag of the file, 1 to 8")
    instances: int
    lowest_score: Score
    highest_score: Score
    milliseconds: float = Field(description="Of work spent on it")
    saturated_prompts: list[int] = Field(
        description="Prompts that found nearly as many as they can"
    )
    annotations: list[JobAnnotation] | None = Field(description="Where they were asked for")


class JobImagePage(BaseModel):
    data: list[JobImage] = Field(description="Images that have an outcome so far")
    categories: list[CocoCategory]
    sorted_of: int | None = Field(
        description="Images that were sorted, of the first 100,000; null in the order of `index`"
    )
    next_cursor: NextCursor
