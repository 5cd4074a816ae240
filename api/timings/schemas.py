"""A job's timings as JSON."""

from datetime import datetime

from pydantic import BaseModel, Field

Seconds = float | None


class StepDocument(BaseModel):
    began_at: datetime
    images: int = Field(description="That got their outcome in this step, failed ones too")
    failed: int


class ImageMilliseconds(BaseModel):
    """Work spent on single images; a batch's is shared by its images."""

    images: int = Field(description="Succeeded ones that were looked at, over the whole job")
    mean: float
    p50: float
    p90: float
    p99: float


class StageSeconds(BaseModel):
    """Of all threads and workers together, without fetches and decodes that failed. Stages of
    different images run at the same time, so these may be more than the seconds that went by."""

    fetch: float = Field(description="From the store, or by the image's URL")
    decode: float = Field(description="JPEGs that the device decodes count as network")
    network: float
    encode: float = Field(description="Of masks as run lengths")
    commit: float = Field(description="Of results to the store and to PostgreSQL")


class Timings(BaseModel):
    """Of the wall clock, pauses included. Planning and labelling overlap."""

    waiting_seconds: Seconds = Field(description="Until planning began")
    planning_seconds: Seconds = Field(description="Until all images were known")
    first_result_seconds: Seconds = Field(description="From sending the job to its first result")
    labelling_seconds: Seconds = Field(description="From the first slice to the last, so far")
    finishing_seconds: Seconds = Field(description="From the last result to the end")
    step_seconds: int | None = Field(description="How long each of `steps` is")
    steps: list[StepDocument]
    stage_seconds: StageSeconds | None = Field(description="Null before the first result")
    image_milliseconds: ImageMilliseconds | None
