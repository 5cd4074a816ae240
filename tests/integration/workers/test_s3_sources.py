from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from domain.lifecycle import JobStatus
from storage.jobs import Job
from storage.settings import Settings
from tests.integration.storage.web_server import Request, serving
from tests.integration.workers.conftest import Workplace
from tests.s3_server import S3Bucket
from workers.finish_run import MAX_FINISHING_ATTEMPTS, finish_job
from workers.runtime import build_runtime


@pytest.fixture
def s3_workplace(database_url: str, tmp_path: Path, s3_bucket: S3Bucket) -> Iterator[Workplace]:
    with working(database_url, tmp_path, s3_bucket.endpoint_url, s3_bucket.uri) as workplace:
        yield workplace


@contextmanager
def working(database_url: str, folder: Path, endpoint: str, bucket: str) -> Iterator[Workplace]:
    settings = Settings(
        database_url=database_url,
        broker_url="redis://127.0.0.1:1/0",
        object_store=f"file://{folder}/objects",
        signing_secret="secret",
        s3_endpoint_url=endpoint,
        allowed_sources=[bucket, "s3://no-such-bucket"],
    )
    runtime = build_runtime(settings)
    try:
        yield Workplace(runtime, folder)
    finally:
        runtime.database.dispose()
        runtime.sources.close()


def reason(job: Job) -> str:
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    return str(job.error["code"])


def test_a_prefix_with_no_images_fails_the_job(
    s3_workplace: Workplace, s3_bucket: S3Bucket
) -> None:
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="photos-old/a.jpg", Body=b"x")
    source = {"type": "prefix", "uri": f"{s3_bucket.uri}/photos"}
    assert reason(s3_workplace.run(s3_workplace.submit(source))) == "no_images"


def test_a_bucket_that_does_not_exist_fails_the_job(s3_workplace: Workplace) -> None:
    source = {"type": "prefix", "uri": "s3://no-such-bucket/photos"}
    assert reason(s3_workplace.run(s3_workplace.submit(source))) == "source_not_found"


def test_a_manifest_that_does_not_exist_fails_the_job(
    s3_workplace: Workplace, s3_bucket: S3Bucket
) -> None:
    source = {"type": "manifest", "uri": f"{s3_bucket.uri}/list.txt"}
    assert reason(s3_workplace.run(s3_workplace.submit(source))) == "source_not_found"


def test_a_bucket_that_refuses_fails_the_job(
    database_url: str, tmp_path: Path, s3_environment: dict[str, str]
) -> None:
    def refuse(request: Request) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        request.answer(403, body, **{"Content-Type": "application/xml"})

    with (
        serving(refuse) as server,
        working(database_url, tmp_path, server.url, "s3://secret") as workplace,
    ):
        source = {"type": "prefix", "uri": "s3://secret/photos"}
        assert reason(workplace.run(workplace.submit(source))) == "source_forbidden"


def test_a_listing_of_many_pages_is_planned_in_order(
    s3_workplace: Workplace, s3_bucket: S3Bucket
) -> None:
    names = sorted(f"{number}.jpg" for number in range(1100))
    for name in names:
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=f"many/{name}", Body=b"")
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="many/README.md", Body=b"")
    job = s3_workplace.submit({"type": "prefix", "uri": f"{s3_bucket.uri}/many"})
    job = s3_workplace.run(job)
    assert job.status is JobStatus.SUCCEEDED
    assert [row.image for row in s3_workplace.images(job)] == names


def test_an_output_bucket_that_does_not_exist_fails_the_job(
    s3_workplace: Workplace, s3_bucket: S3Bucket
) -> None:
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="photos/a.jpg", Body=b"x")
    source = {"type": "prefix", "uri": f"{s3_bucket.uri}/photos"}
    job = s3_workplace.submit(source, output="s3://no-such-bucket/labels")
    job = s3_workplace.run(job)
    for _ in range(MAX_FINISHING_ATTEMPTS):
        s3_workplace.expire_leases()
        finish_job(s3_workplace.runtime, job.id)
    assert reason(s3_workplace.again(job)) == "output_refused"
