"""Previews over REST: a job on hold, its sample, the report, and its promotion."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from storage import holds, jobs
from tests.integration.api.conftest import Api, opened_api, settings_for
from workers import finish_run, planning_run, shard_run
from workers.export_run import run_exports
from workers.runtime import Runtime, build_runtime

IMAGES = 300


@pytest.fixture
def api(database_url: str, tmp_path: Any) -> Iterator[Api]:
    settings = settings_for(
        database_url, tmp_path, allowed_sources=["null://"], models=["null", "null:20ms"]
    )
    with opened_api(settings) as api:
        yield api


@pytest.fixture
def worker(api: Api) -> Iterator[Runtime]:
    runtime = build_runtime(api.settings)
    yield runtime
    runtime.database.dispose()
    runtime.sources.close()


def job_on_hold(api: Api, **changes: Any) -> str:
    source = {"type": "prefix", "uri": f"null://{IMAGES}"}
    return str(api.create_job(source=source, hold=True, **changes)["id"])


def ask(api: Api, job_id: str, **body: Any) -> Any:
    return api.as_alice("POST", f"/v1/jobs/{job_id}/preview", json=body or None)


def look(api: Api, job_id: str) -> dict[str, Any]:
    answer = api.as_alice("GET", f"/v1/jobs/{job_id}/preview")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def work(worker: Runtime, job_id: str) -> None:
    planning_run.plan_job(worker, job_id)
    shard_run.run_shards(worker)
    finish_run.finish_job(worker, job_id)


def test_a_job_on_hold_is_previewed_and_promoted(api: Api, worker: Runtime) -> None:
    job_id = job_on_hold(api)
    job = api.as_alice("GET", f"/v1/jobs/{job_id}").json()
    assert job["held_at"] is not None
    answer = ask(api, job_id, images=20)
    assert answer.status_code == 202
    asked = answer.json()
    assert (asked["status"], asked["images"], asked["report"]) == ("queued", 20, None)
    planning_run.plan_job(worker, job_id)
    drawn = look(api, job_id)
    assert drawn["status"] == "running"
    expected = {"images_done": 0, "images_total": 20, "source_images": IMAGES}
    assert drawn["progress"] == expected
    run_exports(worker)  # too early: nothing happens
    assert look(api, job_id)["report"] is None
    shard_run.run_shards(worker)
    run_exports(worker)
    made = look(api, job_id)
    assert made["status"] == "succeeded"
    assert made["progress"] == {**expected, "images_done": 20}
    report = made["report"]
    assert (report["images"], report["failed"]) == (20, {})
    assert [prompt["text"] for prompt in report["prompts"]] == ["red circle", "star"]
    assert report["estimate"]["images_total"] == IMAGES
    contents = {file["name"]: api.client.get(file["url"]).content for file in made["files"]}
    assert json.loads(contents["report.json"]) == report
    assert b"<html" in contents["report.html"]
    assert json.loads(contents["maskmill.json"])["preview"] == {"images": 20}
    promoted = api.as_alice("POST", f"/v1/jobs/{job_id}/promote").json()
    assert promoted["held_at"] is None
    work(worker, job_id)
    job = api.as_alice("GET", f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["counts"]["succeeded"]) == ("succeeded", IMAGES)
    assert look(api, job_id)["report"] == report


def test_a_job_that_is_not_on_hold_is_not_previewed(api: Api) -> None:
    job_id = str(api.create_job(source={"type": "prefix", "uri": "null://10"})["id"])
    answer = ask(api, job_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "job_not_on_hold")
    assert api.as_alice("GET", f"/v1/jobs/{job_id}/preview").status_code == 404


def test_a_preview_asked_for_again_is_the_same_and_another_one_refused(
    api: Api, worker: Runtime
) -> None:
    job_id = job_on_hold(api)
    first = ask(api, job_id)
    again = ask(api, job_id, images=50)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    other = ask(api, job_id, images=51)
    assert (other.status_code, other.json()["code"]) == (409, "already_previewed")
    work(worker, job_id)
    run_exports(worker)
    assert ask(api, job_id).json()["status"] == "succeeded"


def test_two_that_ask_at_the_same_time_get_the_same_preview(api: Api) -> None:
    job_id = job_on_hold(api)
    with ThreadPoolExecutor(1) as pool, api.database.begin() as first:
        assert holds.ask_for_sample(first, job_id, images=20)
        second = pool.submit(ask, api, job_id, images=20)
        wait_until_blocked(api)
        first.commit()
        assert second.result(timeout=30).status_code == 202


def wait_until_blocked(api: Api) -> None:
    """By a lock of another transaction."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    query += " AND wait_event_type = 'Lock'"
    for _ in range(200):
        with api.database.begin() as connection:
            if connection.exec_driver_sql(query).scalar_one():
                return
        time.sleep(0.05)
    raise AssertionError("nobody waits")


def test_nobody_else_sees_or_promotes_a_job_on_hold(api: Api) -> None:
    job_id = job_on_hold(api)
    ask(api, job_id)
    for method, path in (("GET", "preview"), ("POST", "preview"), ("POST", "promote")):
        answer = api.client.request(method, f"/v1/jobs/{job_id}/{path}", headers=api.bob)
        assert answer.status_code == 404


def test_promoting_twice_or_without_a_hold_changes_nothing(api: Api) -> None:
    job_id = job_on_hold(api)
    for _ in range(2):
        answer = api.as_alice("POST", f"/v1/jobs/{job_id}/promote")
        assert (answer.status_code, answer.json()["held_at"]) == (200, None)
    kinds = [e["kind"] for e in api.as_alice("GET", f"/v1/jobs/{job_id}/events").json()["data"]]
    assert kinds.count("job.promoted") == 1


def test_a_canceled_job_has_a_preview_of_what_was_labelled(api: Api, worker: Runtime) -> None:
    job_id = job_on_hold(api)
    ask(api, job_id, images=20)
    planning_run.plan_job(worker, job_id)
    shard_run.run_shards(worker)
    api.as_alice("POST", f"/v1/jobs/{job_id}/cancel")
    finish_run.finish_job(worker, job_id)
    run_exports(worker)
    made = look(api, job_id)
    assert (made["status"], made["report"]["images"]) == ("succeeded", 20)


def test_a_job_canceled_before_its_sample_was_drawn_has_no_preview(
    api: Api, worker: Runtime
) -> None:
    job_id = job_on_hold(api)
    ask(api, job_id, images=20)
    api.as_alice("POST", f"/v1/jobs/{job_id}/cancel")
    finish_run.finish_job(worker, job_id)
    run_exports(worker)
    made = look(api, job_id)
    assert (made["status"], made["error"]["code"]) == ("failed", "not_sampled")


def test_a_job_on_hold_says_neither_rate_nor_time_left_once_its_sample_is_done(
    api: Api, worker: Runtime
) -> None:
    job_id = job_on_hold(api)
    ask(api, job_id, images=20)
    work(worker, job_id)
    job = api.as_alice("GET", f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["rate"], job["eta_seconds"]) == ("planning", None, None)
    assert job["total_is_final"] is False


def test_the_last_image_of_a_sample_rings_for_its_preview(api: Api, worker: Runtime) -> None:
    job_id = job_on_hold(api)
    ask(api, job_id, images=20)
    planning_run.plan_job(worker, job_id)
    with api.database.begin() as connection:
        connection.exec_driver_sql("DELETE FROM outbox")
    shard_run.run_shards(worker)
    with api.database.begin() as connection:
        bells = connection.exec_driver_sql("SELECT task FROM outbox").scalars().all()
        assert jobs.needs_finishing(connection, job_id) is False
    assert "maskmill.run_exports" in bells


@pytest.mark.parametrize("images", [0, 1001, "many"])
def test_a_sample_has_between_one_and_a_thousand_images(api: Api, images: Any) -> None:
    answer = ask(api, job_on_hold(api), images=images)
    assert answer.status_code == 422


def test_lint_says_what_is_odd_about_prompts(api: Api, worker: Runtime) -> None:
    worker.engines.warm_up()
    body = {
        "prompts": [
            {"text": "head without helmet"},
            {"text": "Red  Circle"},
            {"text": "red circle"},
            {"text": "a " * 40 + "star"},
        ]
    }
    answer = api.as_alice("POST", "/v1/lint", json=body)
    assert answer.status_code == 200
    found = {(f["code"], f["prompt_index"]) for f in answer.json()["findings"]}
    assert {("negation", 0), ("duplicate", 2), ("too_long", 3)} <= found
    assert answer.json()["reads_tokens"] is True
