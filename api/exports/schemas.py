"""Exports as JSON."""

from datetime import datetime

from pydantic import BaseModel, Field

from api.documents import NextCursor, RequestDocument
from api.results.schemas import Url
from domain.exports import ExportOptions
from domain.lifecycle import ExportStatus


class ExportRequest(ExportOptions, RequestDocument):
    """What to show of the result, and in which format."""

    partial: bool = Field(
        False, description="Of a job that still runs, take what is labelled when the export begins"
    )


class ExportProgress(BaseModel):
    """Some formats read the result more than once: `images_read` begins anew with each pass."""

    pass_number: int = Field(description="From 1; 0 before the first")
    images_read: int
    images_total: int | None


class Loss(BaseModel):
    """What polygons lost against the masks, as the format's reader draws them."""

    instances: int
    mean_iou: float
    worst_iou: float
    holes: int = Field(description="Cut in, where the format has none")
    parts: int = Field(description="Joined, where the format has one polygon an instance")
    dropped: int = Field(description="Instances too small for any polygon")


class ExportReport(BaseModel):
    """What is in the files."""

    images: int
    instances: int
    loss: Loss | None = Field(description="Of formats that hold polygons")


class ExportFile(BaseModel):
    name: str = Field(description="Relative; ZIP archives belong unpacked into the same folder")
    sha256: str
    bytes: int
    url: Url


class ExportError(BaseModel):
    """Why the export could not be made."""

    code: str
    message: str


class ExportLinks(BaseModel):
    self: str
    job: str
    cancel: str


class MadeDocument(BaseModel):
    """What exports and evaluations have in common."""

    id: str
    job_id: str
    status: ExportStatus
    partial: bool = Field(description="Of a job that still ran when it was asked for")
    progress: ExportProgress
    rate: float | None = Field(
        description="Images read per second, in all passes of the present run; null while it does "
        "not run, and before its first image"
    )
    eta_seconds: float | None = Field(
        description="Until the present pass has read them all; null while there is no `rate`"
    )
    files: list[ExportFile] | None = Field(
        description="Once it has succeeded, with maskmill.json, which says where they come from, "
        "as the last; null in lists"
    )
    error: ExportError | None
    created_at: datetime
    running_at: datetime | None = Field(description="When the present run, or the last one, began")
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    links: ExportLinks


class ExportDocument(MadeDocument):
    options: ExportOptions
    report: ExportReport | None = Field(description="Once it has succeeded")


class ExportPage(BaseModel):
    data: list[ExportDocument] = Field(description="Newest first")
    next_cursor: NextCursor
