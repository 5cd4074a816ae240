"""What callers see of jobs after the retention policy has been at them."""

from typing import Any

from sqlalchemy import text

from storage.jobs import find_job
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import commit, finish, found, labelled, plan
from workers.retention import Retention


def ended_job(api: Api) -> str:
    job_id = str(api.create_job()["id"])
    lease = plan(api, job_id, images=2)
    commit(api, lease, [labelled(found(0.9)), labelled()])
    finish(api, lease)
    with api.database.begin() as connection:
        connection.execute(text("UPDATE jobs SET finished_at = now() - interval '40 days'"))
    return job_id


def keep_to_policy(api: Api, **settings: Any) -> None:
    Retention(api.settings.model_copy(update=settings), api.database).keep_to_policy()


def test_a_cleaned_job_has_its_results_and_a_hint_in_place_of_events(api: Api) -> None:
    job_id = ended_job(api)
    path = f"/v1/jobs/{job_id}"
    before = {what: api.as_alice("GET", f"{path}/{what}").json() for what in ("", "events")}
    results = api.as_alice("GET", f"{path}/results").json()
    assert before["events"]["data"]
    assert before["events"]["note"] is None
    keep_to_policy(api)
    events = api.as_alice("GET", f"{path}/events")
    assert events.status_code == 200
    assert events.json()["data"] == []
    assert "retention policy" in events.json()["note"]
    job = api.as_alice("GET", path).json()
    assert job["cleaned_at"] is not None
    assert {**job, "cleaned_at": None} == {**before[""], "cleaned_at": None}
    again = api.as_alice("GET", f"{path}/results").json()
    assert [p["annotations"]["sha256"] for p in again["data"]] == [
        p["annotations"]["sha256"] for p in results["data"]
    ]
    link = again["data"][0]["annotations"]["url"]
    assert api.client.get(link).status_code == 200
    assert api.as_alice("GET", f"{path}/images/0/annotations").status_code == 200
    assert api.as_alice("GET", f"{path}/manifest").status_code == 200


def test_a_deleted_job_is_gone(api: Api) -> None:
    job_id = ended_job(api)
    keep_to_policy(api, delete_results_after_days=30.0)
    for what in ("", "/events", "/results", "/manifest"):
        assert api.as_alice("GET", f"/v1/jobs/{job_id}{what}").status_code == 404
    assert api.as_alice("GET", "/v1/jobs").json()["data"] == []


def test_a_caller_may_accept_links_that_expire(api: Api) -> None:
    for body, accepted in (({}, False), ({"accept_expiring_links": True}, True)):
        job_id = str(api.create_job(**body)["id"])
        with api.database.begin() as connection:
            job = find_job(connection, job_id)
        assert job is not None
        assert job.accept_expiring_links is accepted
