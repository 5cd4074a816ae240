"""Every setting of the service, read from MASKMILL_* variables in one place and passed down."""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _split_commas(value: Any) -> Any:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


CommaList = Annotated[list[str], NoDecode, BeforeValidator(_split_commas)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MASKMILL_", extra="ignore", populate_by_name=True)

    database_url: SecretStr = Field(description="postgresql+psycopg://user:password@host/name")
    broker_url: SecretStr = Field(description="redis://:password@host:port/0 (Redis or Valkey)")
    object_store: str = Field(
        description="Where the service keeps its objects: s3://bucket/prefix, or file:///folder"
    )
    signing_secret: SecretStr = Field(
        description="Signs download links of a folder store and sessions of the console; the "
        "secrets of webhooks come from it"
    )
    s3_endpoint_url: str | None = Field(
        None,
        validation_alias=AliasChoices(
            "MASKMILL_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"
        ),
        description="For S3 servers other than AWS; AWS_ENDPOINT_URL counts too",
    )
    s3_public_url: str | None = Field(
        None, description="Where users reach that server, if elsewhere: for download links"
    )

    allowed_sources: CommaList = Field(
        default_factory=list, description="s3://bucket/prefix that jobs may read, comma separated"
    )
    allowed_outputs: CommaList = Field(
        default_factory=list, description="s3://bucket/prefix that jobs may write"
    )
    allowed_hosts: CommaList = Field(
        default_factory=list,
        description="Host names (or host:port) that may be fetched although not public",
    )
    models: CommaList = Field(
        default_factory=lambda: ["demo-sam3"],
        description="Models a job may name (demo-sam3, a hub name, a directory); first is default",
    )
    device: str = Field("auto", description="auto, cpu, cuda or mps")
    device_memory_share: float = Field(
        1.0, gt=0, le=1, description="Of a CUDA device's memory, what this process may take"
    )
    engine: Literal["staged", "reference"] = Field(
        "staged",
        description="Which code runs the network: maskmill's own, or Meta's as published",
    )
    precision: Literal["auto", "float32", "bfloat16", "float8"] = Field(
        "auto", description="auto is bfloat16 on CUDA, float32 elsewhere"
    )

    max_image_bytes: int = Field(200 * 2**20, gt=0)
    max_image_pixels: int = Field(200_000_000, gt=0)
    max_upload_bytes: int = Field(2 * 2**30, gt=0)
    fetch_seconds: float = Field(30.0, gt=0, description="For one image, redirects included")

    max_request_image_bytes: int = Field(
        20 * 2**20, gt=0, description="One image of a single-image request, sent or fetched"
    )
    max_request_image_pixels: int = Field(
        50_000_000, gt=0, description="Of that image: a worker has several in memory at a time"
    )
    max_request_bytes: int = Field(
        64 * 2**20, gt=0, description="The body of a single-image request; base64 adds a third"
    )
    allow_http_images: bool = Field(
        False, description="Single-image requests may name http:// addresses too"
    )
    cors_origins: CommaList = Field(
        default_factory=lambda: ["*"],
        description="Web pages of these origins may call the single-image routes; no credentials",
    )

    interactive_seconds: float = Field(
        30.0, gt=0, description="In which a single-image request is answered, or refused with 503"
    )
    interactive_waiting: int = Field(
        64, gt=0, description="Single-image requests that may wait for a worker; then it is 503"
    )
    interactive_per_key: int = Field(
        16, gt=0, description="Such requests of one API key that an API process has outstanding"
    )
    interactive_bytes: int = Field(
        2**30, gt=0, description="Files of such requests that one API process may have waiting"
    )
    kept_image_seconds: int = Field(
        3600, gt=0, description="How long an image_id works after it was last used"
    )
    kept_image_bytes: int = Field(
        256 * 2**20, gt=0, description="Files behind the image_ids of one API key, in the broker"
    )
    embedding_device_bytes: int = Field(
        2 * 2**30, ge=0, description="Embeddings that an interactive worker keeps on its device"
    )
    embedding_host_bytes: int = Field(
        2 * 2**30, ge=0, description="Embeddings that it keeps in memory besides"
    )
    bulk_niceness: int = Field(
        10, ge=0, le=19, description="How far bulk workers let other processes go first"
    )

    lease_seconds: float = Field(60.0, gt=0)
    sweep_seconds: float = Field(5.0, gt=0)
    max_shard_attempts: int = Field(50, gt=0)
    stall_seconds: float = Field(
        300.0, gt=0, description="A worker whose shard makes no progress for so long ends itself"
    )
    deaf_seconds: float = Field(
        60.0, gt=0, description="An idle worker that hears no message for so long, though some wait"
    )
    keep_finished_days: float = Field(
        30.0, ge=0, description="Events, image lists and webhook logs of jobs that have ended"
    )
    delete_results_after_days: float | None = Field(
        None, gt=0, description="Whole jobs with their results; by default never"
    )
    jobs_per_key: int = Field(200, gt=0, description="Jobs of one API key that may be open")
    images_per_key: int = Field(
        20_000_000, gt=0, description="Images that open jobs of one API key may have left to do"
    )
    exports_per_key: int = Field(20, gt=0, description="Exports of one API key that may be open")
    exports_at_once: int = Field(
        2, gt=0, description="Exports that a planner makes at a time; fewer than its threads"
    )
    delete_exports_after_days: float | None = Field(
        30.0, gt=0, description="Files of exports, which can be made again; none for never"
    )
    requests_per_minute: int = Field(
        12_000, gt=0, description="Requests to /v1 that one API key may make"
    )
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Where a worker serves Prometheus metrics; 0: nowhere"
    )
    link_seconds: int = Field(3600, gt=0, description="How long download links work")
    log_format: str = Field("console", pattern="^(console|json)$")


@cache
def load_settings() -> Settings:
    """The process's settings. Only entry points call this; everything else is handed them."""
    return Settings()
