"""Results that lie in the user's bucket: the store signs the links itself."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
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
