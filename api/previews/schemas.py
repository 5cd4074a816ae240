"""Previews as JSON."""

from datetime import datetime

from pydantic import BaseModel, Field

from api.documents import RequestDocument
from api.exports.schemas import ExportError, ExportFile
from domain.lifecycle import ExportStatus
from domain.preview import PreviewReport

MAX_SAMPLE_IMAGES = 1000


class PreviewRequest(RequestDocument):
    """How many of the job's images to label, by chance."""

    images: int = Field(50, ge=1, le=MAX_SAMPLE_IMAGES)


class PreviewProgress(BaseModel):
    """Of the sample, once it is drawn."""

    images_done: int
    images_total: int | None
    source_images: int | None = Field(description="All that the job would label")


class PreviewLinks(BaseModel):
    self: str
    job: str
    promote: str


class PreviewDocument(BaseModel):
    id: str
    job_id: str
    status: ExportStatus = Field(
        description="running from when the sample is drawn until its report is written"
    )
    images: int = Field(description="Asked for; there may be fewer")
    progress: PreviewProgress
    report: PreviewReport | None = Field(description="Once it has succeeded")
    files: list[ExportFile] | None = Field(
        description="Once it has succeeded: the report as a page and as JSON, and where they come "
        "from"
    )
    error: ExportError | None
    created_at: datetime
    finished_at: datetime | None
    links: PreviewLinks
