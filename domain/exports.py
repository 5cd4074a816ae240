"""What an export is asked for, what it is made of, and what a format's writer is given."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, BinaryIO, Literal, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from domain.annotations import Rle
from domain.documents import MAX_TEXT, Document, JobPromptDocument

Score = Annotated[float, Field(ge=0, le=1)]
ClassName = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class ExportFormat(StrEnum):
    COCO = "coco"
    COCO_SHARDS = "coco-shards"
    YOLO = "yolo"
    LABEL_STUDIO = "label-studio"
    CVAT = "cvat"
    VOC = "voc"
    FIFTYONE = "fiftyone"
    HUGGING_FACE = "hugging-face"
    PARQUET = "parquet"


class ExclusiveClasses(Document):
    """Where masks of two of these classes overlap by more than `iou`, the better score stays."""

    classes: list[ClassName] = Field(min_length=2, max_length=1000)
    iou: Score = 0.5


class ViewOptions(Document):
    """Which instances are shown, and as what. Applied in the order of the fields."""

    min_score: Score | None = Field(
        None, description="For all classes; else each prompt's own threshold, 0.5 without one"
    )
    class_scores: dict[ClassName, Score] = Field(
        default_factory=dict,
        max_length=1000,
        description="For single classes, named as the prompts name them; before `min_score`",
    )
    min_area: int | None = Field(None, ge=0, description="Pixels of the mask from which it counts")
    max_area: int | None = Field(None, ge=0, description="Pixels of the mask up to which it counts")
    classes: dict[ClassName, ClassName | None] = Field(
        default_factory=dict,
        max_length=1000,
        description="New names of classes: many may go to one, null leaves a class out",
    )
    nms_within: Score | None = Field(
        None, description="Mask IoU above which the lower score of one class is dropped"
    )
    nms_across: Score | None = Field(None, description="The same, whatever the classes")
    exclusive: list[ExclusiveClasses] = Field(default_factory=list, max_length=100)
    top_k: int | None = Field(None, ge=1, description="Best scores of an image that are kept")


class ExportOptions(ViewOptions):
    """A view in a format. The same options on the same result give the same bytes."""

    format: ExportFormat
    geometry: Literal["rle", "polygon"] = Field(
        "rle", description="Of masks in coco, coco-shards and label-studio"
    )
    polygon_tolerance: float = Field(
        1.0, ge=0, le=100, description="Pixels by which a polygon may leave the mask's outline"
    )
    coordinates: Literal["oriented", "raw"] = Field(
        "oriented", description="Of the image as EXIF turns it, or of the pixels as they are stored"
    )
    image_prefix: str = Field(
        "", max_length=2048, description="Put before image names where a tool opens them by itself"
    )


class ExportInfo(BaseModel):
    """Where an export comes from. Every file of it, or one beside it, holds this as JSON."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    created_at: AwareDatetime = Field(description="When the result was complete, or last grew")
    partial: bool = Field(description="Whether the job still ran")
    model: str
    weights_sha256: str
    code_version: str
    prompts: list[JobPromptDocument]
    categories: list[str] = Field(description="Class names before `options.classes`")
    classes: list[str] = Field(description="Class names shown, in the order of their ids")
    images: int = Field(ge=0, description="Labelled images in it")
    options: ExportOptions


@dataclass(frozen=True, slots=True)
class ShownInstance:
    """An instance that the view shows. `class_id` counts `ExportInfo.classes` from 0; `box` is
    the mask's (x, y, width, height) in pixels, `area` its pixel count. `instance` is the number
    that the instance has in the result, also where others of its image are not shown; `threshold`
    is what its score had to reach."""

    instance: int
    prompt_index: int
    class_id: int
    score: float
    box: tuple[float, float, float, float]
    area: int
    mask: Rle
    threshold: float


@dataclass(frozen=True, slots=True)
class ShownImage:
    """A labelled image and what is shown of it, all in the coordinates that were asked for.
    `saturated_prompts` and `milliseconds` are the result's."""

    image_index: int
    image: str
    custom_id: str | None
    width: int
    height: int
    orientation: int
    instances: tuple[ShownInstance, ...]
    saturated_prompts: tuple[int, ...] = ()
    milliseconds: float = 0.0


class ExportSource(Protocol):
    """What a writer writes."""

    @property
    def info(self) -> ExportInfo: ...

    def shown(self) -> Iterator[ShownImage]:
        """The labelled images, also those without instances, in image order; those that failed
        are left out. Begins anew with each call, and holds a few hundred rows at a time."""


class Sink(Protocol):
    """Where a writer leaves its files."""

    def file(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A seekable file to write, which belongs to the export once the context has ended well.
        `name` is relative and uses `/`. Files are few: what would be a file an image goes into
        ZIP archives, which whoever downloads them unpacks into one folder."""


@dataclass(frozen=True, slots=True)
class PolygonLoss:
    """What polygons lost against the masks. `iou` is between a mask and its polygon as the
    format's reader draws it; `holes` and `parts` count what was cut in and joined; `dropped` are
    instances too small for any polygon."""

    instances: int = 0
    mean_iou: float = 1.0
    worst_iou: float = 1.0
    holes: int = 0
    parts: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class ExportCounts:
    images: int
    instances: int
    loss: PolygonLoss | None = None  # of formats that hold polygons


Writer = Callable[[ExportSource, Sink], ExportCounts]

IMAGES_PER_FILE = 10_000  # of formats that come in several files

Writers = Mapping[ExportFormat, Writer]
