"""Events as JSON."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from api.documents import NextCursor
from api.jobs.schemas import Counts
from domain.lifecycle import JobStatus


class EventDocument(BaseModel):
    id: int
    at: datetime
    kind: str = Field(examples=["job.planning", "shard.running"])
    shard_number: int | None
    data: dict[str, Any]


class EventPage(BaseModel):
    data: list[EventDocument]
    next_cursor: NextCursor
    note: str | None = Field(None, description="Why events that there were are not here")


class ProgressDocument(BaseModel):
    """In a stream only: how far the job is, as `GET /v1/jobs/{job_id}` would say."""

    status: JobStatus
    counts: Counts
    total_is_final: bool
    instances: int
    rate: float | None
    eta_seconds: float | None
