"""GET /v1/jobs/{job_id}/timings, from what is stored."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from domain.annotations import ImageOutcome, failure
from domain.errors import ImageErrorCode
from storage.shards import add_stage_seconds
from storage.timings import Work, sampled_slices, step_seconds
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import commit, finish, labelled, plan


def timings(api: Api, job_id: str) -> Any:
    answer = api.as_alice("GET", f"/v1/jobs/{job_id}/timings")
    assert answer.status_code == 200, answer.text
    return answer.json()


def took(milliseconds: float) -> ImageOutcome:
    return replace(labelled(), milliseconds=milliseconds)


def test_a_job_that_nobody_has_looked_at_has_no_timings_yet(api: Api) -> None:
    shown = timings(api, api.create_job()["id"])
    assert shown.pop("steps") == []
    assert set(shown.values()) == {None}


def test_stretches_steps_and_milliseconds_are_those_of_the_jobs_work(api: Api) -> None:
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=7)
    gone = failure(ImageErrorCode.NOT_FOUND, "gone")
    commit(api, lease, [took(10), took(20), replace(gone, milliseconds=9999)])
    commit(api, lease, [took(30), took(40)], start=3)
    commit(api, lease, [gone, took(50)], start=5)
    finish(api, lease)
    moved_to(api, "slices", "start = 0", created_at=10, committed_at=20)
    moved_to(api, "slices", "start = 3", created_at=15, committed_at=22.5)
    moved_to(api, "slices", "start = 5", created_at=20, committed_at=130)
    moved_to(api, "jobs", "true", created_at=0, planning_at=4, running_at=9.5, finished_at=133)
    shown = timings(api, job_id)
    assert shown["waiting_seconds"] == 4
    assert shown["planning_seconds"] == 5.5
    assert shown["first_result_seconds"] == 20
    assert shown["labelling_seconds"] == 120
    assert shown["finishing_seconds"] == 3
    assert shown["step_seconds"] == 2
    done = {
        n: (step["images"], step["failed"])
        for n, step in enumerate(shown["steps"])
        if step["images"]
    }
    assert done == {5: (3, 1), 6: (2, 0), 60: (2, 1)}
    began = [datetime.fromisoformat(step["began_at"]) for step in shown["steps"]]
    lengths = {later - earlier for earlier, later in pairwise(began)}
    assert lengths == {timedelta(seconds=2)}
    assert shown["image_milliseconds"] == {
        "images": 5,
        "mean": 30,
        "p50": 30,
        "p90": 46,
        "p99": pytest.approx(49.6),
    }


def test_seconds_of_stages_are_added_up_over_runs_and_not_by_those_who_lost_theirs(
    api: Api,
) -> None:
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=2)
    assert timings(api, job_id)["stage_seconds"] is None
    with api.database.begin() as connection:
        add_stage_seconds(connection, lease, {"network": 2.0, "fetch": 0.5})
        add_stage_seconds(connection, lease, {"network": 1.0})
        add_stage_seconds(connection, replace(lease, token=lease.token - 1), {"decode": 9.0})
        add_stage_seconds(connection, lease, {})
    assert timings(api, job_id)["stage_seconds"] == {
        "fetch": 0.5,
        "decode": 0,
        "network": 3,
        "encode": 0,
        "commit": 0,
    }


def moved_to(api: Api, table: str, where: str, **seconds: float) -> None:
    values = ", ".join(
        f"{name} = timestamptz '2026-01-01 00:00:00+00' + interval '{after} s'"
        for name, after in seconds.items()
    )
    with api.database.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {table} SET {values} WHERE {where}")


@pytest.mark.parametrize(
    ("seconds", "step"), [(0, 1), (60, 1), (61, 2), (3600, 60), (86400, 1800), (10**8, 1728000)]
)
def test_steps_are_round_and_not_many(seconds: float, step: int) -> None:
    began_at = datetime(2026, 1, 1, tzinfo=UTC)
    work = Work(began_at, began_at, began_at + timedelta(seconds=seconds))
    assert step_seconds(work, most=60) == step


@pytest.mark.parametrize(
    ("most", "starts"), [(1, [0]), (3, [0, 3, 6]), (4, [0, 2, 4, 6]), (9, range(7))]
)
def test_slices_are_sampled_over_the_whole_job(api: Api, most: int, starts: Any) -> None:
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=7)
    for start in range(7):
        commit(api, lease, [labelled()], start=start)
    with api.database.begin() as connection:
        found = sampled_slices(connection, job_id, most=most)
    assert [part.start for part in found] == list(starts)


def test_timings_are_the_owners(api: Api) -> None:
    job_id = api.create_job()["id"]
    answer = api.client.get(f"/v1/jobs/{job_id}/timings", headers=api.bob)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
