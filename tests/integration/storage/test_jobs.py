from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text

from domain.errors import LeaseLost
from domain.lifecycle import JOB_TRANSITIONS, JobStatus
from storage import events, jobs, outbox
from storage.database import Database
from storage.jobs import JobLease, NewJob
from storage.transitions import move_job
from tests.integration.storage.rows import add_job, add_key, add_planned_job, claimed


def claim(database: Database, job_id: str, *, finishing: bool = False) -> JobLease | None:
    with database.begin() as connection:
        return jobs.claim_job(connection, job_id, finishing=finishing, owner="p", lease_seconds=60)


def test_a_new_job_leaves_a_doorbell_and_an_event_in_its_transaction(database: Database) -> None:
    job = add_job(database, add_key(database))
    with database.begin() as connection:
        (bell,) = outbox.take_bells(connection)
        (event,) = events.events_of(connection, job.id, limit=10)
    assert (bell.task, bell.arguments) == (outbox.Tasks.PLAN_JOB, {"job_id": job.id})
    assert event.kind == "job.queued"


def test_bells_of_a_rolled_back_transaction_never_ring(database: Database) -> None:
    with pytest.raises(RuntimeError), database.begin() as connection:
        outbox.ring(connection, outbox.Tasks.RUN_SHARDS)
        raise RuntimeError
    with database.begin() as connection:
        assert outbox.take_bells(connection) == []


def test_bells_whose_publisher_dies_stay(database: Database) -> None:
    with database.begin() as connection:
        outbox.ring(connection, outbox.Tasks.RUN_SHARDS)
    with pytest.raises(RuntimeError), database.begin() as connection:
        assert len(outbox.take_bells(connection)) == 1
        raise RuntimeError
    with database.begin() as connection:
        assert len(outbox.take_bells(connection)) == 1


def test_one_idempotency_key_makes_one_job_whoever_is_first(database: Database) -> None:
    key = add_key(database)
    new = NewJob(
        owner_key_id=key,
        model="demo-sam3",
        floor=0.1,
        prompts=[],
        source={},
        request_sha256="0",
        idempotency_key="once",
    )

    def create(_: int) -> tuple[str, bool]:
        with database.begin() as connection:
            job, is_new = jobs.create_job(connection, new)
        return job.id, is_new

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(8)))
    assert len({job_id for job_id, _ in made}) == 1
    assert sum(is_new for _, is_new in made) == 1
    with database.begin() as connection:
        other = replace(new, owner_key_id=add_key(database, "other"))
        assert jobs.create_job(connection, other)[1]


@pytest.mark.parametrize("status", list(JobStatus))
def test_the_guarded_update_obeys_the_transition_table(
    database: Database, status: JobStatus
) -> None:
    job = add_job(database, add_key(database))
    for target in JobStatus:
        if target is JobStatus.QUEUED:
            continue
        with database.begin() as connection:
            connection.execute(text("UPDATE jobs SET status = :s"), {"s": status})
        with database.begin() as connection:
            moved = move_job(connection, job.id, to=target)
        assert moved == (target in JOB_TRANSITIONS[status])


def test_a_job_is_planned_by_one_planner_at_a_time(database: Database) -> None:
    job = add_job(database, add_key(database))
    first = claim(database, job.id)
    assert first is not None
    assert claim(database, job.id) is None
    with database.begin() as connection:
        assert jobs.jobs_to_plan(connection) == []
        connection.execute(text("UPDATE jobs SET lease_expires_at = now() - interval '1 s'"))
        assert jobs.jobs_to_plan(connection) == [job.id]
    assert claim(database, job.id) is not None
    with pytest.raises(LeaseLost), database.begin() as connection:
        jobs.advance_plan(connection, first, cursor={}, lease_seconds=60)


def test_planning_stops_when_the_job_is_canceled(database: Database) -> None:
    job = add_job(database, add_key(database))
    lease = claim(database, job.id)
    assert lease is not None
    with database.begin() as connection:
        jobs.request_cancel(connection, job.id)
    with pytest.raises(LeaseLost), database.begin() as connection:
        jobs.advance_plan(connection, lease, cursor={}, lease_seconds=60)


def test_a_job_is_not_finished_while_a_shard_is_open(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=1)
    assert claim(database, job_id, finishing=True) is None
    claimed(database)
    assert claim(database, job_id, finishing=True) is None


def test_a_job_that_is_still_being_planned_is_not_finished(database: Database) -> None:
    job = add_job(database, add_key(database))
    with database.begin() as connection:
        move_job(connection, job.id, to=JobStatus.PLANNING)
    assert claim(database, job.id, finishing=True) is None


def test_an_error_dooms_the_job_once_and_the_first_reason_stays(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=2)
    with database.begin() as connection:
        jobs.doom_job(connection, job_id, {"code": "first"})
        jobs.doom_job(connection, job_id, {"code": "second"})
        found = jobs.find_job(connection, job_id)
        assert found is not None
        assert found.error == {"code": "first"}
    lease = claim(database, job_id, finishing=True)
    assert lease is not None
    with database.begin() as connection:
        assert jobs.finish_job(connection, lease, to=JobStatus.FAILED, manifest_number=1)
        assert not jobs.finish_job(connection, lease, to=JobStatus.FAILED, manifest_number=2)


def test_every_change_of_status_leaves_an_event(database: Database) -> None:
    job = add_job(database, add_key(database))
    with database.begin() as connection:
        for status in (JobStatus.PLANNING, JobStatus.RUNNING, JobStatus.SUCCEEDED):
            assert move_job(connection, job.id, to=status)
    with database.begin() as connection:
        kinds = [e.kind for e in events.events_of(connection, job.id, limit=10)]
    assert kinds == ["job.queued", "job.planning", "job.running", "job.succeeded"]
