from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func, select

from domain.lifecycle import JobStatus
from storage.jobs import claim_job
from storage.shards import retry_shard_later
from storage.tables import jobs, outbox
from storage.transitions import move_job
from tests.integration.api.conftest import Api, job_body
from tests.integration.api.labelled import plan


def test_a_job_is_accepted_with_its_location_and_shown_there(api: Api) -> None:
    answer = api.as_alice("POST", "/v1/jobs", json=job_body(name="first", priority=3))
    assert answer.status_code == 202
    created = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{created['id']}"
    shown = api.as_alice("GET", answer.headers["location"])
    assert shown.status_code == 200
    assert shown.json() == created
    assert created["status"] == "queued"
    assert created["name"] == "first"
    assert created["priority"] == 3
    assert created["model"] == "demo-sam3"
    assert created["floor"] == 0.1
    assert created["source"] == {"type": "prefix", "uri": "s3://photos/street/"}
    assert created["counts"] == {
        "total": 0,
        "processing": 0,
        "succeeded": 0,
        "failed": 0,
        "canceled": 0,
    }
    assert created["total_is_final"] is False
    assert created["error"] is None
    assert created["created_at"].endswith("Z")


def test_a_job_and_its_doorbell_are_written_together(api: Api) -> None:
    job = api.create_job()
    with api.database.begin() as connection:
        bells = connection.execute(select(outbox.c.task, outbox.c.arguments)).all()
    assert [tuple(bell) for bell in bells] == [("maskmill.plan_job", {"job_id": job["id"]})]


def test_the_same_idempotency_key_and_body_answer_with_the_same_job(api: Api) -> None:
    headers = {"Idempotency-Key": "order-1"}
    first = api.as_alice("POST", "/v1/jobs", json=job_body(), headers=headers)
    spelled_out = job_body(floor=0.1, name=None)
    second = api.as_alice("POST", "/v1/jobs", json=spelled_out, headers=headers)
    assert "idempotency-replayed" not in first.headers
    assert second.status_code == 202
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json()["id"] == first.json()["id"]
    assert count_jobs(api) == 1


def test_the_same_idempotency_key_with_another_body_is_a_conflict(api: Api) -> None:
    headers = {"Idempotency-Key": "order-1"}
    api.as_alice("POST", "/v1/jobs", json=job_body(), headers=headers)
    answer = api.as_alice("POST", "/v1/jobs", json=job_body(floor=0.2), headers=headers)
    assert answer.status_code == 409
    assert answer.json()["code"] == "idempotency_conflict"
    assert count_jobs(api) == 1


def test_idempotency_keys_of_two_callers_do_not_meet(api: Api) -> None:
    headers = {"Idempotency-Key": "order-1"}
    mine = api.as_alice("POST", "/v1/jobs", json=job_body(), headers=headers)
    theirs = api.client.post("/v1/jobs", json=job_body(), headers={**api.bob, **headers})
    assert theirs.status_code == 202
    assert theirs.json()["id"] != mine.json()["id"]


def test_requests_with_one_idempotency_key_at_the_same_time_make_one_job(api: Api) -> None:
    def create(_number: int) -> tuple[int, str]:
        headers = {"Idempotency-Key": "order-1"}
        answer = api.as_alice("POST", "/v1/jobs", json=job_body(), headers=headers)
        return answer.status_code, answer.json().get("id")

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(create, range(24)))
    assert len(answers) == 1
    assert answers.pop()[0] == 202
    assert count_jobs(api) == 1


def test_jobs_are_listed_newest_first_in_pages(api: Api) -> None:
    ids = [api.create_job(name=str(number))["id"] for number in range(5)]
    seen: list[str] = []
    query: dict[str, object] = {"limit": 2}
    for _ in range(3):
        page = api.as_alice("GET", "/v1/jobs", params=query).json()
        seen += [job["id"] for job in page["data"]]
        query["cursor"] = page["next_cursor"]
    assert seen == ids[::-1]
    assert page["next_cursor"] is None


def test_jobs_are_listed_by_status(api: Api) -> None:
    job = api.create_job()
    api.create_job()
    start_planning(api, job["id"])
    page = api.as_alice("GET", "/v1/jobs", params={"status": "planning"}).json()
    assert [entry["id"] for entry in page["data"]] == [job["id"]]
    assert api.as_alice("GET", "/v1/jobs", params={"status": "lost"}).status_code == 422


def test_another_callers_jobs_do_not_exist_also_for_an_admin(api: Api) -> None:
    job = api.create_job()
    for stranger in (api.bob, api.admin):
        assert api.client.get("/v1/jobs", headers=stranger).json()["data"] == []
        for method, suffix in (
            ("GET", ""),
            ("POST", "/cancel"),
            ("GET", "/events"),
            ("GET", "/errors"),
            ("GET", "/results"),
            ("GET", "/manifest"),
            ("GET", "/images/0/annotations"),
        ):
            path = f"/v1/jobs/{job['id']}{suffix}"
            answer = api.client.request(method, path, headers=stranger)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert api.as_alice("GET", f"/v1/jobs/{job['id']}").json()["cancel_requested_at"] is None


def test_a_job_is_canceled_and_canceling_again_changes_nothing(api: Api) -> None:
    path = f"/v1/jobs/{api.create_job()['id']}"
    first = api.as_alice("POST", f"{path}/cancel")
    second = api.as_alice("POST", f"{path}/cancel")
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["cancel_requested_at"] is not None
    assert second.json() == first.json()
    events = api.as_alice("GET", f"{path}/events").json()["data"]
    assert [event["kind"] for event in events] == ["job.queued", "job.cancel_requested"]


def test_canceling_a_canceled_job_is_fine_but_one_that_ended_otherwise_is_a_conflict(
    api: Api,
) -> None:
    canceled, failed = api.create_job()["id"], api.create_job()["id"]
    api.as_alice("POST", f"/v1/jobs/{canceled}/cancel")
    with api.database.begin() as connection:
        move_job(connection, canceled, to=JobStatus.CANCELED)
        move_job(connection, failed, to=JobStatus.FAILED)
    assert api.as_alice("POST", f"/v1/jobs/{canceled}/cancel").json()["status"] == "canceled"
    answer = api.as_alice("POST", f"/v1/jobs/{failed}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_already_ended")


def test_events_are_paged_oldest_first(api: Api) -> None:
    job = api.create_job()
    start_planning(api, job["id"])
    path = f"/v1/jobs/{job['id']}/events"
    first = api.as_alice("GET", path, params={"limit": 1}).json()
    rest = api.as_alice("GET", path, params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [e["kind"] for e in first["data"] + rest["data"]] == ["job.queued", "job.planning"]
    assert rest["next_cursor"] is None


def test_events_keep_the_workers_host_and_the_words_of_errors_to_themselves(api: Api) -> None:
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=1)
    with api.database.begin() as connection:
        error = "OSError: no route to 10.1.2.3"
        assert retry_shard_later(connection, lease, error=error, delay_seconds=0)
    answer = api.as_alice("GET", f"/v1/jobs/{job_id}/events")
    found = {event["kind"]: event["data"] for event in answer.json()["data"]}
    assert found["shard.running"].keys() == {"token", "attempt"}
    assert found["shard.pending"] == {"last_error": "OSError"}


def count_jobs(api: Api) -> int:
    with api.database.begin() as connection:
        return connection.execute(select(func.count()).select_from(jobs)).scalar_one()


def start_planning(api: Api, job_id: str) -> None:
    with api.database.begin() as connection:
        lease = claim_job(connection, job_id, finishing=False, owner="test", lease_seconds=60)
        assert lease is not None
        assert move_job(connection, job_id, to=JobStatus.PLANNING)
