from sqlalchemy import text

from domain.lifecycle import JobStatus, Wish
from storage import events, jobs, outbox, shards
from storage.database import Database
from tests.integration.storage.rows import add_job, add_key, add_planned_job, claim, claimed


def pause(database: Database, job_id: str) -> None:
    with database.begin() as connection:
        jobs.pause_job(connection, job_id)


def resume(database: Database, job_id: str) -> None:
    with database.begin() as connection:
        jobs.resume_job(connection, job_id)


def found(database: Database, job_id: str) -> jobs.Job:
    with database.begin() as connection:
        job = jobs.find_job(connection, job_id)
    assert job is not None
    return job


def kinds(database: Database, job_id: str) -> list[str]:
    with database.begin() as connection:
        return [event.kind for event in events.events_of(connection, job_id, limit=50)]


def test_shards_of_a_paused_job_wait_until_it_is_resumed(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=2)
    pause(database, job_id)
    with database.begin() as connection:
        assert shards.models_with_work(connection) == []
    assert claim(database) is None
    resume(database, job_id)
    assert claimed(database).job_id == job_id


def test_a_paused_jobs_runner_hears_of_it_and_is_not_told_to_cancel(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=1)
    lease = claimed(database)
    wishes = []
    for wish in (pause, resume, pause):
        wish(database, job_id)
        with database.begin() as connection:
            wishes.append(shards.renew_lease(connection, lease, lease_seconds=60))
    assert wishes == [Wish.PAUSED, Wish.WANTED, Wish.PAUSED]
    with database.begin() as connection:
        jobs.request_cancel(connection, job_id)
        assert shards.renew_lease(connection, lease, lease_seconds=60) is Wish.UNWANTED


def test_pausing_and_resuming_twice_changes_nothing(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=1)
    pause(database, job_id)
    first = found(database, job_id).paused_at
    pause(database, job_id)
    assert found(database, job_id).paused_at == first
    resume(database, job_id)
    resume(database, job_id)
    assert kinds(database, job_id)[-2:] == ["job.paused", "job.resumed"]
    assert kinds(database, job_id).count("job.paused") == 1


def test_resuming_rings_for_the_jobs_model_in_the_same_transaction(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=1)
    pause(database, job_id)
    with database.begin() as connection:
        outbox.take_bells(connection)
        jobs.resume_job(connection, job_id)
        (bell,) = outbox.take_bells(connection)
    assert (bell.task, bell.arguments) == (outbox.Tasks.RUN_SHARDS, {"model": "demo-sam3"})


def test_a_paused_job_is_planned_all_the_same(database: Database) -> None:
    job = add_job(database, add_key(database))
    pause(database, job.id)
    with database.begin() as connection:
        assert jobs.jobs_to_plan(connection) == [job.id]


def test_a_paused_job_is_canceled_like_any_other_and_ends_without_its_pause(
    database: Database,
) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=2)
    pause(database, job_id)
    with database.begin() as connection:
        jobs.request_cancel(connection, job_id)
        lease = jobs.claim_job(connection, job_id, finishing=True, owner="f", lease_seconds=60)
        assert lease is not None
        assert jobs.finish_job(connection, lease, to=JobStatus.CANCELED, manifest_number=1)
    assert found(database, job_id).paused_at is None


def test_jobs_that_have_ended_are_neither_paused_nor_resumed_nor_prioritized(
    database: Database,
) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=1)
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET status = 'succeeded'"))
        jobs.pause_job(connection, job_id)
        jobs.resume_job(connection, job_id)
        jobs.set_priority(connection, job_id, 7)
    job = found(database, job_id)
    assert (job.paused_at, job.priority) == (None, 0)


def test_a_raised_priority_takes_effect_with_the_next_claim(database: Database) -> None:
    key = add_key(database)
    first = add_planned_job(database, key, shard_count=5)
    second = add_planned_job(database, key, shard_count=5)
    with database.begin() as connection:
        jobs.set_priority(connection, second, 50)
        jobs.set_priority(connection, second, 50)
    assert [claimed(database).job_id for _ in range(6)] == [second] * 5 + [first]
    assert kinds(database, second).count("job.prioritized") == 1
