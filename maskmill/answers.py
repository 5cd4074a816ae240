"""What the service answers, typed. Unknown fields are let through: it may be newer than this."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from domain.documents import JobPromptDocument
from domain.lifecycle import TERMINAL_JOB, JobStatus
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
