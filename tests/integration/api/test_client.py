"""`maskmill.Client` against the real API under uvicorn."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import create_app
from domain.annotations import failure
from domain.documents import JobPromptDocument
from domain.errors import ImageErrorCode
from maskmill import ApiError, Client
from maskmill.job_results import JobResults
from storage import object_keys
from storage.object_store import open_store
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import commit, finish, found, labelled, plan
from tests.integration.api.served import served


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    with served(create_app(api.settings)) as address:
        yield address


@pytest.fixture
def client(url: str, api: Api) -> Iterator[Client]:
    with Client(url, api.alice["Authorization"].split()[1]) as opened:
        yield opened


def test_a_job_is_created_shown_listed_and_canceled(client: Client) -> None:
    prompts: list[JobPromptDocument | str] = [
        "star",
        JobPromptDocument(text="hard hat", class_name="helmet", threshold=0.6),
    ]
    job = client.create_job("s3://photos/street/", prompts, name="week 12", floor=0.2)
    assert (job.name, job.floor, job.status) == ("week 12", 0.2, "queued")
    assert [prompt.class_name for prompt in job.prompts] == [None, "helmet"]
    assert client.get_job(job.id) == job
    assert client.list_jobs() == [job]
    assert client.list_jobs(status="running") == []
    canceled = client.cancel(job.id)
    assert canceled.cancel_requested_at is not None
    assert [event.kind for event in client.events(job.id)] == ["job.queued", "job.cancel_requested"]


def test_a_job_is_paused_resumed_prioritized_and_tried_again(client: Client, api: Api) -> None:
    job = client.create_job("s3://photos/street/", ["star"])
    assert client.pause(job.id).paused_at is not None
    assert client.resume(job.id).paused_at is None
    assert client.set_priority(job.id, -3).priority == -3
    lease = plan(api, job.id, images=1)
    commit(api, lease, [failure(ImageErrorCode.TIMEOUT, "slow")])
    finish(api, lease)
    again = client.retry(job.id, codes=["timeout"])
    assert (again.status, again.finished_at) == ("running", None)
    with pytest.raises(ApiError) as refused:
        client.retry(job.id)
    assert refused.value.code == "job_not_ended"


def test_an_s3_address_of_a_manifest_is_one(client: Client) -> None:
    job = client.create_job("s3://photos/list.JSONL")
    assert job.source == {"type": "manifest", "uri": "s3://photos/list.JSONL"}


def test_the_same_idempotency_key_gives_the_same_job(client: Client) -> None:
    jobs = [client.create_job("s3://photos/", ["star"], idempotency_key="one") for _ in range(2)]
    assert jobs[0].id == jobs[1].id
    assert client.create_job("s3://photos/", ["star"]).id != jobs[0].id


def test_a_refusal_is_an_error_with_its_code(client: Client, url: str) -> None:
    with pytest.raises(ApiError) as refused:
        client.create_job("s3://photos/", ["star"], model="yolo")
    assert (refused.value.status, refused.value.code) == (422, "unknown_model")
    assert refused.value.problem["type"] == "urn:maskmill:problem:unknown_model"
    with Client(url, "mm_wrong") as stranger, pytest.raises(ApiError) as unknown:
        stranger.list_jobs()
    assert (unknown.value.status, unknown.value.code) == (401, "invalid_key")


def test_a_folders_images_are_uploaded_with_their_paths_and_nothing_else(
    client: Client, api: Api, tmp_path: Path
) -> None:
    files = {"a.png": b"A", "day 1/ü.JPG": b"B" * 3_000_000}
    others = {".env": b"secret", "notes.txt": b"no", ".cache/c.png": b"no"}
    for name, content in (files | others).items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    seen: list[tuple[int, int]] = []
    progress = lambda sent, total: seen.append((sent, total))  # noqa: E731
    job = client.submit_folder(tmp_path / "set", ["star"], on_progress=progress)
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert job.source == {"type": "dataset", "id": job.source["id"], "manifest": None}
    store = open_store(api.settings.object_store, settings=api.settings)
    prefix = object_keys.dataset_prefix(job.source["id"])
    stored = {info.key.removeprefix(prefix): store.get(info.key) for info in store.list(prefix)}
    assert stored == files


def test_an_upload_above_the_limit_is_refused_by_name(
    client: Client, api: Api, tmp_path: Path
) -> None:
    (tmp_path / "big.png").write_bytes(b"x" * (api.settings.max_upload_bytes + 1))
    dataset = client.create_dataset("big")
    with pytest.raises(ApiError) as refused:
        client.upload_file(dataset.id, "big.png", tmp_path / "big.png")
    assert (refused.value.status, refused.value.code) == (413, "request_too_large")


def test_results_and_errors_are_read_through_the_client(client: Client, api: Api) -> None:
    job = client.create_job("s3://photos/", ["red circle"])
    lease = plan(api, job.id, images=3)
    commit(api, lease, [labelled(found(0.9)), failure(ImageErrorCode.TIMEOUT, "slow")])
    commit(api, lease, [labelled()], start=2)
    assert [(e.image_index, e.code) for e in client.errors(job.id)] == [(1, "timeout")]
    assert len(client.annotations(job.id, 0).annotations) == 1
    finish(api, lease)
    ended = client.wait(job.id, timeout_seconds=5)
    assert ended.ended
    assert ended.counts.done == 3
    results = JobResults(client, job.id)
    assert results.manifest().job_id == job.id
    parts = list(client.results(job.id))
    assert [part.first_image_index for part in parts] == [0, 2]
    for file in (parts[0].images, parts[1].annotations):
        assert hashlib.sha256(results.read_part(file.key)).hexdigest() == file.sha256


def test_waiting_reports_progress_and_gives_up_in_time(client: Client) -> None:
    job = client.create_job("s3://photos/", ["star"])
    seen: list[str] = []
    with pytest.raises(TimeoutError):
        client.wait(job.id, lambda j: seen.append(j.id), poll_seconds=0.01, timeout_seconds=0.05)
    assert set(seen) == {job.id}


def test_keys_and_models_are_managed_through_the_client(url: str, api: Api) -> None:
    with Client(url, api.admin["Authorization"].split()[1]) as admin:
        made = admin.create_key("carol")
        assert made.id in [key.id for key in admin.iter_keys()]
        with Client(url, made.secret) as carol:
            assert carol.list_jobs() == []
            assert [model.name for model in carol.models()] == ["demo-sam3", "facebook/sam3"]
            assert admin.revoke_key(made.id).revoked_at is not None
            with pytest.raises(ApiError):
                carol.list_jobs()


def test_health_needs_no_key(url: str) -> None:
    with Client(url) as nobody:
        assert nobody.health()
