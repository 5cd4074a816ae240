"""The service's state as JSON: numbers of all keys together, and names of none."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from api.models.schemas import ModelDocument


class QueueDocument(BaseModel):
    """Of one model's open jobs. Seconds are 0 where nothing waits."""

    model: str
    busy_workers: int = Field(description="That hold a shard now")
    waiting_shards: int
    waiting_images: int
    running_leases: int
    expired_leases: int = Field(description="Shards whose worker fell silent")
    oldest_wait_seconds: float
    idle_seconds: float = Field(description="Without a result although something waits")


class WaitingDocument(BaseModel):
    count: int
    oldest_seconds: float


class ServedModel(ModelDocument):
    loaded_at: datetime | None = Field(description="When a worker last loaded it")


class Interactive(BaseModel):
    """Single-image requests, of the default model."""

    workers: int = Field(description="That live")
    waiting: int = Field(description="Requests that no worker has taken")


class WorkerDocument(BaseModel):
    """A process that said in the last 20 seconds that it lives. Its memory is that of its CUDA
    device; where it has none in use, of its machine."""

    name: str | None = Field(description="Host and process, for admin keys only")
    role: Literal["bulk", "interactive", "planner"]
    version: str
    serves: list[str] = Field(description="Models that it takes work of")
    loaded: list[str] = Field(description="Models that it has in memory")
    device: str | None = Field(description="Of what is loaded")
    memory_used_bytes: int = Field(description="What this process has of it")
    memory_total_bytes: int
    is_busy: bool | None = Field(description="Whether it holds a lease; interactive ones have none")
    started_at: datetime
    seen_at: datetime


class SystemDocument(BaseModel):
    version: str
    models: list[ServedModel]
    queues: list[QueueDocument] | None = Field(description="Null while they cannot be counted")
    workers: list[WorkerDocument] | None
    jobs: dict[str, int] | None = Field(description="Open ones by status, and `paused` of them")
    waiting_exports: WaitingDocument | None = Field(description="Previews and evaluations too")
    running_exports: WaitingDocument | None = Field(description="Seconds are of the present run")
    interactive: Interactive | None = Field(description="Null while the broker is away")
