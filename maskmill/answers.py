"""What the service answers, typed. Unknown fields are let through: it may be newer than this."""

from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from domain.documents import JobPromptDocument
from domain.evaluation.documents import EvaluationReport
from domain.lifecycle import TERMINAL_EXPORT, TERMINAL_JOB, ExportStatus, JobStatus
from domain.preview import PreviewReport
from domain.result_manifest import ResultFile


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Counts(Answer):
    """Images by state; `total` grows while the job is planned."""

    total: int
    processing: int
    succeeded: int
    failed: int
    canceled: int

    @property
    def done(self) -> int:
        return self.succeeded + self.failed + self.canceled


class JobError(Answer):
    """Why the job as a whole could not be done; `line` is a manifest's."""

    code: str
    message: str
    line: int | None = None


class Job(Answer):
    id: str
    name: str | None
    status: JobStatus
    priority: int
    model: str
    floor: float
    prompts: list[JobPromptDocument]
    source: dict[str, Any]
    output: str | None
    webhook_url: str | None = None
    counts: Counts
    total_is_final: bool
    instances: int
    rate: float | None  # images per second
    eta_seconds: float | None
    error: JobError | None
    created_at: datetime
    planning_at: datetime | None
    running_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    paused_at: datetime | None = None
    held_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL_JOB


class Event(Answer):
    id: int
    at: datetime
    kind: str
    shard_number: int | None
    data: dict[str, Any]


class JobProgress(Answer):
    """How far a job is, among its events."""

    status: JobStatus
    counts: Counts
    total_is_final: bool
    instances: int
    rate: float | None  # images per second
    eta_seconds: float | None


class Delivery(Answer):
    """A call to a job's webhook: `pending`, `delivered` or `given_up`."""

    id: str
    kind: str
    state: str
    attempts: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime


class FailedImage(Answer):
    image_index: int
    image: str
    custom_id: str | None
    code: str
    message: str


class LinkedFile(ResultFile):
    """`url` works for a while, without credentials."""

    url: str


class LinkedPart(Answer):
    annotations: LinkedFile
    images: LinkedFile
    first_image_index: int
    image_count: int


class ExportProgress(Answer):
    """Some formats read the result more than once: `images_read` begins anew with each pass."""

    pass_number: int
    images_read: int
    images_total: int | None


class Loss(Answer):
    """What polygons lost against the masks, as the format's reader draws them."""

    instances: int
    mean_iou: float
    worst_iou: float
    holes: int
    parts: int
    dropped: int


class ExportReport(Answer):
    images: int
    instances: int
    loss: Loss | None


class ExportFile(Answer):
    """`url` works for a while, without credentials."""

    name: str
    sha256: str
    bytes: int
    url: str


class ExportError(Answer):
    code: str
    message: str


class Made(Answer):
    """What is made of a job's result. `files` are null in lists, and until it has succeeded."""

    id: str
    job_id: str
    status: ExportStatus
    files: list[ExportFile] | None
    error: ExportError | None
    created_at: datetime
    finished_at: datetime | None

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL_EXPORT


MadeT = TypeVar("MadeT", bound=Made)


class _Read(Made):
    """What reads a result image by image."""

    partial: bool
    options: dict[str, Any]
    progress: ExportProgress
    rate: float | None = None  # images read per second
    eta_seconds: float | None = None
    running_at: datetime | None
    cancel_requested_at: datetime | None


class Export(_Read):
    report: ExportReport | None


class Evaluation(_Read):
    """`report` is null in lists, and until it has succeeded."""

    truth_sha256: str
    report: EvaluationReport | None


class PreviewProgress(Answer):
    """Images of the sample, once it is drawn; `source_images` are all that the job would label."""

    images_done: int
    images_total: int | None
    source_images: int | None


class Preview(Made):
    images: int
    progress: PreviewProgress
    report: PreviewReport | None


class ImageAnnotations(Answer):
    """One image in COCO's terms."""

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]


class Dataset(Answer):
    id: str
    name: str
    linked: bool
    created_at: datetime


class Key(Answer):
    id: str
    name: str
    is_admin: bool
    created_at: datetime
    revoked_at: datetime | None


class NewKey(Key):
    """`secret` is shown this once."""

    secret: str


class ModelLimits(Answer):
    text_tokens: int
    queries: int
    image_size: int


class Model(Answer):
    name: str
    is_default: bool
    limits: ModelLimits | None
