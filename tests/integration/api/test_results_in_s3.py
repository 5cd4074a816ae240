"""Results that lie in the user's bucket: the store signs the links itself."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from domain.annotations import failure
from domain.errors import ImageErrorCode
from storage import object_keys
from storage.settings import Settings
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import commit, finish, found, labelled, plan
from tests.s3_server import S3Bucket


@pytest.fixture
def in_s3(api: Api, settings: Settings, s3_bucket: S3Bucket) -> Iterator[Api]:
    changed = settings.model_copy(
        update={
            "s3_endpoint_url": s3_bucket.endpoint_url,
            "allowed_outputs": [s3_bucket.uri],
        }
    )
    with TestClient(create_app(changed), raise_server_exceptions=False) as client:
        yield replace(api, client=client, settings=changed)


def test_a_jobs_output_is_linked_and_read_where_the_user_wants_it(
    in_s3: Api, s3_bucket: S3Bucket
) -> None:
    job = in_s3.create_job(output=f"{s3_bucket.uri}/team/run 1")
    assert job["output"] == f"{s3_bucket.uri}/team/run 1"
    lease = plan(in_s3, job["id"], images=1)
    commit(in_s3, lease, [labelled(found(0.9))])
    finish(in_s3, lease)
    path = f"/v1/jobs/{job['id']}"
    page = in_s3.as_alice("GET", f"{path}/results").json()
    file = page["data"][0]["annotations"]
    assert file["url"].startswith(s3_bucket.endpoint_url)
    for url in (file["url"], page["manifest"]["url"]):
        assert httpx.get(url).status_code == 200
    assert hashlib.sha256(httpx.get(file["url"]).content).hexdigest() == file["sha256"]
    assert in_s3.as_alice("GET", f"{path}/manifest").json()["totals"]["instances"] == 1
    shown = in_s3.as_alice("GET", f"{path}/images/0/annotations").json()
    assert len(shown["annotations"]) == 1
    listed = s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name, Prefix="team/run 1/")
    assert listed["KeyCount"] == 3


@pytest.mark.parametrize("change", ["longer", "other bytes", "not Parquet"])
@pytest.mark.parametrize("kind", ["annotations", "images"])
def test_parts_that_the_user_changed_are_not_read(
    in_s3: Api, s3_bucket: S3Bucket, change: str, kind: str
) -> None:
    job = in_s3.create_job(output=f"{s3_bucket.uri}/changed")
    lease = plan(in_s3, job["id"], images=1)
    commit(in_s3, lease, [labelled(found(0.9))])
    path = f"/v1/jobs/{job['id']}"
    part = in_s3.as_alice("GET", f"{path}/results").json()["data"][0][kind]
    key = f"changed/{job['id']}/{part['key']}"
    body = s3_bucket.client.get_object(Bucket=s3_bucket.name, Key=key)["Body"].read()
    changed = {
        "longer": body + b"x",
        "other bytes": body[:8] + bytes(len(body) - 16) + body[-8:],
        "not Parquet": bytes(len(body)),
    }[change]
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=key, Body=changed)
    answer = in_s3.as_alice("GET", f"{path}/images/0/annotations")
    assert (answer.status_code, answer.json()["code"]) == (409, "result_damaged")


def test_errors_are_not_read_from_a_part_that_the_user_changed(
    in_s3: Api, s3_bucket: S3Bucket
) -> None:
    job = in_s3.create_job(output=f"{s3_bucket.uri}/changed")
    commit(in_s3, plan(in_s3, job["id"], images=1), [failure(ImageErrorCode.TIMEOUT, "slow")])
    path = f"/v1/jobs/{job['id']}"
    key = in_s3.as_alice("GET", f"{path}/results").json()["data"][0]["images"]["key"]
    s3_bucket.client.put_object(
        Bucket=s3_bucket.name, Key=f"changed/{job['id']}/{key}", Body=b"PAR1"
    )
    answer = in_s3.as_alice("GET", f"{path}/errors")
    assert (answer.status_code, answer.json()["code"]) == (409, "result_damaged")


@pytest.mark.parametrize("body", [b"{}", b"not JSON", b" " * (64 * 2**20 + 1)], ids=len)
def test_a_manifest_that_the_user_changed_is_refused(
    in_s3: Api, s3_bucket: S3Bucket, body: bytes
) -> None:
    job = in_s3.create_job(output=f"{s3_bucket.uri}/changed")
    lease = plan(in_s3, job["id"], images=1)
    commit(in_s3, lease, [labelled()])
    finish(in_s3, lease)
    key = f"changed/{job['id']}/{object_keys.manifest(1)}"
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=key, Body=body)
    answer = in_s3.as_alice("GET", f"/v1/jobs/{job['id']}/manifest")
    assert (answer.status_code, answer.json()["code"]) == (409, "result_damaged")


def test_results_that_were_deleted_are_a_problem_and_not_a_fault(
    in_s3: Api, s3_bucket: S3Bucket
) -> None:
    job = in_s3.create_job(output=f"{s3_bucket.uri}/gone")
    lease = plan(in_s3, job["id"], images=1)
    commit(in_s3, lease, [labelled()])
    for entry in s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name)["Contents"]:
        s3_bucket.client.delete_object(Bucket=s3_bucket.name, Key=entry["Key"])
    answer = in_s3.as_alice("GET", f"/v1/jobs/{job['id']}/images/0/annotations")
    assert (answer.status_code, answer.json()["code"]) == (404, "object_not_found")
