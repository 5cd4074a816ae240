"""Jobs as JSON."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from api.documents import NextCursor, RequestDocument
from domain.documents import JobPromptDocument
from domain.errors import ImageErrorCode
from domain.lifecycle import JobStatus
from domain.prompts import MAX_JOB_PROMPTS
from storage.manifests import manifest_kind
from storage.object_keys import dataset_file
from storage.object_store import split_s3_uri
from storage.sources import null_images

DEFAULT_FLOOR = 0.1


def _s3_uri(uri: str) -> str:
    """Raises `InvalidRequest`, a ValueError: no local path and no other scheme over REST."""
    split_s3_uri(uri)
    return uri


def _prefix_uri(uri: str) -> str:
    return uri if null_images(uri) else _s3_uri(uri)


def _manifest_name(name: str) -> str:
    manifest_kind(name)
    return name


def _dataset_path(path: str) -> str:
    dataset_file("", path)
    return path


S3Uri = Annotated[str, Field(max_length=2048), AfterValidator(_s3_uri)]
PrefixUri = Annotated[str, Field(max_length=2048), AfterValidator(_prefix_uri)]
ManifestUri = Annotated[S3Uri, AfterValidator(_manifest_name)]
DatasetPath = Annotated[str, Field(max_length=1024), AfterValidator(_dataset_path)]
DatasetManifest = Annotated[DatasetPath, AfterValidator(_manifest_name)]


class PrefixSource(RequestDocument):
    """Every image below a prefix of a bucket."""

    type: Literal["prefix"]
    uri: PrefixUri = Field(examples=["s3://bucket/photos/"])


class ManifestSource(RequestDocument):
    """The images that a manifest names: JSON lines, CSV, Parquet, or a URI a line."""

    type: Literal["manifest"]
    uri: ManifestUri = Field(examples=["s3://bucket/images.jsonl"])


class DatasetSource(RequestDocument):
    """Uploaded images: all of them, or those that a manifest among them names."""

    type: Literal["dataset"]
    id: str = Field(max_length=64, examples=["ds_01k5a0c6w7fj4m2n9s8r3t1v5x"])
    manifest: DatasetManifest | None = None


Source = Annotated[PrefixSource | ManifestSource | DatasetSource, Field(discriminator="type")]


Priority = Annotated[int, Field(ge=-100, le=100, description="Higher runs first")]


class JobRequest(RequestDocument):
    """What to label, and what to look for."""

    source: Source
    prompts: list[JobPromptDocument] = Field(
        default_factory=list,
        max_length=MAX_JOB_PROMPTS,
        description="1 to 256; may be empty where a manifest's items bring their own",
    )
    name: str | None = Field(None, max_length=200)
    model: str | None = Field(None, max_length=1024, description="The service's first by default")
    floor: float = Field(
        DEFAULT_FLOOR, ge=0, le=1, description="Instances with a lower score are not kept"
    )
    output: S3Uri | None = Field(
        None, description="Write the results here; by default the service keeps them"
    )
    priority: Priority = 0
    hold: bool = Field(
        False,
        description="Label nothing until the job is promoted, but for the sample of a preview",
    )
    webhook_url: str | None = Field(
        None,
        max_length=2048,
        description="An https address that is told when the job begins, pauses and ends, and when "
        "an export of it ends",
        examples=["https://example.com/hooks/maskmill"],
    )
    accept_expiring_links: bool = Field(
        False, description="Run although the manifest's links may expire before the job ends"
    )

    @model_validator(mode="after")
    def _check_prompts(self) -> Self:
        manifest = self.source.type == "manifest" or (
            self.source.type == "dataset" and self.source.manifest is not None
        )
        if not self.prompts and not manifest:
            raise ValueError("give at least one prompt")
        return self


class JobChange(RequestDocument):
    """What of a job can be changed after it was made."""

    priority: Priority


class RetryRequest(RequestDocument):
    """Which failed images to run again."""

    codes: list[ImageErrorCode] | None = Field(
        None,
        min_length=1,
        max_length=len(ImageErrorCode),
        description="Those with one of these error codes; by default all",
    )


class Counts(BaseModel):
    """Images. What is not in the other four waits; `total` grows while the job is planned."""

    total: int
    processing: int
    succeeded: int
    failed: int
    canceled: int


class JobError(BaseModel):
    """Why the job as a whole could not be done."""

    code: str
    message: str
    line: int | None = Field(None, description="Of the manifest, from 1")


class JobLinks(BaseModel):
    self: str
    events: str
    deliveries: str
    errors: str
    results: str
    manifest: str
    exports: str
    evaluations: str
    preview: str
    cancel: str
    pause: str
    resume: str
    promote: str
    retry: str


class JobDocument(BaseModel):
    id: str
    name: str | None
    status: JobStatus
    priority: int
    model: str
    floor: float
    prompts: list[JobPromptDocument]
    source: Source
    output: str | None
    webhook_url: str | None
    counts: Counts
    total_is_final: bool
    instances: int = Field(description="Found so far, with a score of `floor` or more")
    rate: float | None = Field(
        description="Images per second over the last minute of work; null while paused or retried"
    )
    eta_seconds: float | None = Field(
        description="Known once the total is; null while paused or retried"
    )
    error: JobError | None
    created_at: datetime
    planning_at: datetime | None
    running_at: datetime | None
    finished_at: datetime | None
    cleaned_at: datetime | None = Field(
        description="When its events and webhook log were removed, by the operator's policy"
    )
    cancel_requested_at: datetime | None
    paused_at: datetime | None
    held_at: datetime | None = Field(
        description="Since when it is on hold; null once it is promoted, and for all other jobs"
    )
    links: JobLinks


class JobPage(BaseModel):
    data: list[JobDocument]
    next_cursor: NextCursor
