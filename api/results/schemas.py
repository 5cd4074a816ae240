"""Results as JSON: links to parts, failed images, and one image's annotations."""

from typing import Annotated

from pydantic import BaseModel, Field

from api.documents import NextCursor
from domain.errors import ImageErrorCode
from domain.result_manifest import ResultFile

Url = Annotated[str, Field(description="Works for a while without credentials; ask again for more")]


class LinkedFile(ResultFile):
    url: Url


class LinkedPart(BaseModel):
    """The annotations and the images of some consecutive images."""

    annotations: LinkedFile
    images: LinkedFile
    first_image_index: int
    image_count: int


class ManifestLink(BaseModel):
    number: int
    key: str
    url: Url


class ResultPage(BaseModel):
    manifest: ManifestLink | None = Field(description="Null until the job has ended")
    data: list[LinkedPart] = Field(description="In image order; grows while the job runs")
    next_cursor: NextCursor


class FailedImage(BaseModel):
    image_index: int
    image: str = Field(description="As you wrote it")
    custom_id: str | None
    code: ImageErrorCode
    message: str


class FailedImagePage(BaseModel):
    data: list[FailedImage]
    next_cursor: NextCursor


class ImageError(BaseModel):
    code: ImageErrorCode
    message: str


class CocoImage(BaseModel):
    """Sizes are in pixels of the oriented image; 0 where it could not be read so far."""

    id: int
    file_name: str
    width: int
    height: int
    image_index: int
    custom_id: str | None
    error: ImageError | None


class CocoRle(BaseModel):
    size: tuple[int, int] = Field(description="Height, width")
    counts: str


class CocoAnnotation(BaseModel):
    id: int = Field(description="Counts the annotations of this document from 1")
    image_id: int
    category_id: int
    segmentation: CocoRle
    area: int
    bbox: tuple[float, float, float, float] = Field(description="x, y, width, height")
    iscrowd: int
    score: float
    prompt_index: int


class CocoCategory(BaseModel):
    id: int
    name: str


class ImageAnnotations(BaseModel):
    """One image in COCO's terms. Classes that only an item's own prompts name have ids of this
    document; those of the job's prompts are the same in every document of the job."""

    image: CocoImage
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]
