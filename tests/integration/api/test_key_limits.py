from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from domain.lifecycle import JobStatus
from storage.transitions import move_job
from tests.integration.api.conftest import Api, job_body, opened_api, settings_for
from tests.integration.api.labelled import plan


@pytest.fixture
def narrow(database_url: str, tmp_path: Path) -> Iterator[Api]:
    """Three open jobs a key, and 100 images left to do."""
    settings = settings_for(database_url, tmp_path, jobs_per_key=3, images_per_key=100)
    with opened_api(settings) as api:
        yield api


def submit(api: Api, key: str | None = None) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.as_alice("POST", "/v1/jobs", json=job_body(), headers=headers)


def require_refused(answer: Any, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0


def test_a_key_has_so_many_open_jobs_however_many_ask_at_once(narrow: Api) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: submit(narrow), range(16)))
    assert Counter(answer.status_code for answer in answers) == {202: 3, 429: 13}
    listed = narrow.as_alice("GET", "/v1/jobs").json()["data"]
    assert len(listed) == 3
    require_refused(submit(narrow), "too_many_jobs")
    other = narrow.client.post("/v1/jobs", json=job_body(), headers=narrow.admin)
    assert other.status_code == 202
    with narrow.database.begin() as connection:
        move_job(connection, listed[0]["id"], to=JobStatus.FAILED)
    assert submit(narrow).status_code == 202


def test_a_replay_is_answered_although_the_key_is_full(narrow: Api) -> None:
    first = [submit(narrow, f"order-{number}").json()["id"] for number in range(3)]
    again = [submit(narrow, f"order-{number}") for number in range(3)]
    assert [answer.json()["id"] for answer in again] == first
    assert {answer.headers["idempotency-replayed"] for answer in again} == {"true"}
    require_refused(submit(narrow, "order-3"), "too_many_jobs")


def test_a_refused_job_can_be_sent_again_with_the_same_idempotency_key(narrow: Api) -> None:
    ids = [submit(narrow).json()["id"] for _ in range(3)]
    require_refused(submit(narrow, "late"), "too_many_jobs")
    with narrow.database.begin() as connection:
        move_job(connection, ids[0], to=JobStatus.FAILED)
    assert submit(narrow, "late").status_code == 202


def test_a_key_with_much_left_to_do_waits_until_some_is_done(narrow: Api) -> None:
    job_id = submit(narrow).json()["id"]
    lease = plan(narrow, job_id, images=100)
    require_refused(submit(narrow), "too_many_images")
    with narrow.database.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE shards SET committed = 1 WHERE job_id = '{lease.job_id}'"
        )
    assert submit(narrow).status_code == 202


@pytest.fixture
def processes(
    database_url: str, broker_url: str, tmp_path: Path
) -> Iterator[tuple[Api, TestClient]]:
    """Two API processes with 5 requests a minute: one with its keys, and another's client."""
    settings = settings_for(database_url, tmp_path, requests_per_minute=5, broker_url=broker_url)
    with ExitStack() as stack:
        api = stack.enter_context(opened_api(settings))
        other = stack.enter_context(TestClient(create_app(settings)))
        yield api, other


def test_a_key_makes_so_many_requests_a_minute_over_all_processes(
    processes: tuple[Api, TestClient],
) -> None:
    api, other = processes
    clients = (api.client, other)
    answers = [clients[n % 2].get("/v1/jobs", headers=api.alice) for n in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert answers[0].headers["ratelimit-policy"] == '"minute";q=5;w=60'
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers[:5]] == [
        f"r={left}" for left in (4, 3, 2, 1, 0)
    ]
    require_refused(answers[5], "too_many_requests")
    assert int(answers[5].headers["retry-after"]) <= 60
    assert other.get("/v1/jobs", headers=api.bob).status_code == 200
    for _ in range(5):
        last = other.get("/v1/jobs", headers=api.admin)
    assert last.status_code == 200
    require_refused(other.get("/v1/jobs", headers=api.admin), "too_many_requests")
    assert other.get("/healthz").status_code == 200


def test_requests_of_strangers_are_not_counted_for_anybody(
    processes: tuple[Api, TestClient],
) -> None:
    api, _ = processes
    for _ in range(8):
        wrong = {"Authorization": "Bearer mm_wrong"}
        assert api.client.get("/v1/jobs", headers=wrong).status_code == 401
    assert api.as_alice("GET", "/v1/jobs").status_code == 200


def test_a_broker_that_is_away_lets_requests_through(api: Api) -> None:
    for _ in range(3):
        answer = api.as_alice("GET", "/v1/jobs")
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers
