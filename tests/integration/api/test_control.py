from typing import Any

import pytest
from sqlalchemy import update

from domain.annotations import failure
from domain.errors import ImageErrorCode
from domain.lifecycle import JobStatus
from storage import shards
from storage.tables import jobs
from storage.transitions import move_job
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import commit, finish, found, labelled, plan


def act(api: Api, job_id: str, action: str, **options: Any) -> Any:
    return api.as_alice("POST", f"/v1/jobs/{job_id}/{action}", **options)


def change(api: Api, job_id: str, **values: object) -> Any:
    return api.as_alice("PATCH", f"/v1/jobs/{job_id}", json=values)


def set_columns(api: Api, job_id: str, **values: object) -> None:
    with api.database.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def ended_job(api: Api) -> str:
    """With one of two images failed."""
    job_id: str = api.create_job()["id"]
    lease = plan(api, job_id, images=2)
    commit(api, lease, [labelled(found(0.9)), failure(ImageErrorCode.TIMEOUT, "slow")])
    finish(api, lease)
    return job_id


def test_a_job_is_paused_and_resumed_and_doing_so_twice_changes_nothing(api: Api) -> None:
    job_id = api.create_job()["id"]
    first, second = act(api, job_id, "pause"), act(api, job_id, "pause")
    assert (first.status_code, second.json()) == (200, first.json())
    assert first.json()["paused_at"] is not None
    for _ in range(2):
        resumed = act(api, job_id, "resume")
        assert (resumed.status_code, resumed.json()["paused_at"]) == (200, None)


def test_a_paused_job_has_no_rate_and_no_estimate(api: Api) -> None:
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=100)
    commit(api, lease, [labelled()] * 10)
    commit(api, lease, [labelled()] * 10, start=10)
    act(api, job_id, "pause")
    paused = api.as_alice("GET", f"/v1/jobs/{job_id}").json()
    assert (paused["status"], paused["rate"], paused["eta_seconds"]) == ("running", None, None)
    assert paused["counts"]["succeeded"] == 20


def test_a_paused_job_is_canceled(api: Api) -> None:
    job_id = api.create_job()["id"]
    act(api, job_id, "pause")
    assert act(api, job_id, "cancel").json()["cancel_requested_at"] is not None


def test_the_priority_of_a_job_is_changed_within_its_bounds(api: Api) -> None:
    job_id = api.create_job()["id"]
    changed = change(api, job_id, priority=40)
    assert (changed.status_code, changed.json()["priority"]) == (200, 40)
    for wrong in ({"priority": 101}, {"priority": None}, {}, {"priority": 1, "floor": 0.5}):
        assert change(api, job_id, **wrong).status_code == 422
    assert api.as_alice("GET", f"/v1/jobs/{job_id}").json()["priority"] == 40


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELED])
def test_a_job_that_has_ended_is_not_paused_resumed_or_prioritized(
    api: Api, status: JobStatus
) -> None:
    job_id = api.create_job()["id"]
    with api.database.begin() as connection:
        move_job(connection, job_id, to=status)
    answers = [
        act(api, job_id, "pause"),
        act(api, job_id, "resume"),
        change(api, job_id, priority=1),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (409, "job_already_ended")


def test_failed_images_of_an_ended_job_are_tried_again(api: Api) -> None:
    job_id = ended_job(api)
    answer = act(api, job_id, "retry", json={"codes": ["timeout", "fetch_error"]})
    shown = answer.json()
    assert answer.status_code == 200
    assert (shown["status"], shown["finished_at"], shown["eta_seconds"]) == ("running", None, None)
    assert shown["counts"]["failed"] == 1
    with api.database.begin() as connection:
        lease = shards.claim_shard(connection, owner="w", models=["demo-sam3"], lease_seconds=60)
    assert lease is not None
    assert lease.retry is not None
    assert lease.retry.codes == {"timeout", "fetch_error"}
    manifest = api.as_alice("GET", f"/v1/jobs/{job_id}/manifest")
    assert manifest.json()["number"] == 1


def test_a_retry_needs_no_body_and_takes_only_codes_of_images(api: Api) -> None:
    job_id = ended_job(api)
    for wrong in ({"codes": ["nothing_to_retry"]}, {"codes": []}, {"images": [1]}):
        assert act(api, job_id, "retry", json=wrong).status_code == 422
    assert act(api, job_id, "retry").status_code == 200


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"status": "running"}, "job_not_ended"),
        ({"status": "failed"}, "job_failed"),
        ({"cleaned_at": jobs.c.finished_at}, "job_cleaned"),
    ],
)
def test_a_job_that_cannot_be_tried_again_says_why_and_stays_as_it_is(
    api: Api, values: dict[str, Any], code: str
) -> None:
    job_id = ended_job(api)
    set_columns(api, job_id, **values)
    before = api.as_alice("GET", f"/v1/jobs/{job_id}").json()
    answer = act(api, job_id, "retry")
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    after = api.as_alice("GET", f"/v1/jobs/{job_id}").json()
    assert {**after, "rate": None} == {**before, "rate": None}


def test_a_retry_of_a_job_without_such_failures_changes_nothing(api: Api) -> None:
    job_id: str = api.create_job()["id"]
    lease = plan(api, job_id, images=1)
    commit(api, lease, [labelled(found(0.9))])
    finish(api, lease)
    before = api.as_alice("GET", f"/v1/jobs/{job_id}").json()
    answer = act(api, job_id, "retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_retry")
    assert api.as_alice("GET", f"/v1/jobs/{job_id}").json() == before


def test_nobody_elses_job_is_paused_resumed_retried_or_changed(api: Api) -> None:
    path = f"/v1/jobs/{ended_job(api)}"
    for stranger in (api.bob, api.admin):
        for action in ("pause", "resume", "retry"):
            assert api.client.post(f"{path}/{action}", headers=stranger).status_code == 404
        answer = api.client.patch(path, json={"priority": 1}, headers=stranger)
        assert answer.status_code == 404
