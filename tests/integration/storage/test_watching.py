import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, text

from domain.ids import new_id
from domain.lifecycle import ResultUse
from storage import outbox
from storage.database import Database
from storage.export_runs import claim_export, exports_wait
from storage.exports import NewExport, create_export
from storage.holds import ask_for_sample, promote_job
from storage.jobs import Job, pause_job, resume_job
from storage.watching import STATEMENTS, ModelQueue, Waiting, Watched, watched
from tests.integration.storage.rows import add_job, add_key, add_planned_job, claimed, expire_leases


def look(database: Database) -> Watched:
    with database.begin() as connection:
        return watched(connection)


def execute(database: Database, statement: str) -> None:
    with database.begin() as connection:
        connection.execute(text(statement))


def queue(database: Database) -> ModelQueue:
    [only] = look(database).queues
    return only


def promoted(connection: Connection, job: Job) -> None:
    promote_job(connection, job.id)


def add_preview(connection: Connection, job_id: str, key: str) -> None:
    preview = NewExport(job_id, key, {"images": 2}, "0", "sample", ResultUse.PREVIEW)
    create_export(connection, preview)


def sampled(connection: Connection, job: Job) -> None:
    ask_for_sample(connection, job.id, images=2)
    add_preview(connection, job.id, job.owner_key_id)


def resumed(connection: Connection, job: Job) -> None:
    resume_job(connection, job.id)


def test_a_service_with_nothing_to_do_has_empty_queues(database: Database) -> None:
    state = look(database)
    assert (state.queues, state.jobs, state.paused_jobs) == ((), {}, 0)
    for waiting in (state.unplanned, state.bells, state.due_deliveries):
        assert (waiting.count, waiting.oldest_seconds) == (0, 0)


def test_what_waits_and_what_runs_is_counted_by_model(database: Database) -> None:
    key = add_key(database)
    add_planned_job(database, key, shard_count=3)
    claimed(database)
    execute(database, "UPDATE shards SET available_at = now() - interval '90 s' WHERE number = 2")
    found = queue(database)
    assert (found.model, found.waiting_shards, found.waiting_images) == ("demo-sam3", 2, 200)
    assert (found.running_leases, found.expired_leases) == (1, 0)
    assert 90 <= found.oldest_wait_seconds < 120
    expire_leases(database)
    assert (queue(database).running_leases, queue(database).expired_leases) == (0, 1)


@pytest.mark.parametrize(
    "wish", ["paused_at = now()", "cancel_requested_at = now()", "error = '{}'"]
)
def test_what_nobody_wants_now_does_not_wait(database: Database, wish: str) -> None:
    add_planned_job(database, add_key(database), shard_count=2)
    claimed(database)
    execute(database, f"UPDATE jobs SET {wish}, wanted_at = now() - interval '1 hour'")
    found = queue(database)
    assert (found.waiting_shards, found.oldest_wait_seconds, found.idle_seconds) == (0, 0, 0)
    assert found.running_leases == 1, "its runner has not heard of it yet"


def test_idle_is_the_time_since_the_last_slice_of_any_job_of_the_model(database: Database) -> None:
    key = add_key(database)
    first, _ = (add_planned_job(database, key, shard_count=1) for _ in range(2))
    execute(database, "UPDATE jobs SET wanted_at = now() - interval '2 hours'")
    assert queue(database).idle_seconds >= 7200
    for age in ("3 hours", "50 s"):
        execute(
            database,
            f"""INSERT INTO slices (job_id, shard_number, start, token, count, status,
                    annotations_key, images_key, first_image_index, committed_at)
                SELECT '{first}', 0, 0, nextval('lease_tokens'), 1, 'committed', 'a', 'b', 0,
                    now() - interval '{age}'""",
        )
    assert 50 <= queue(database).idle_seconds < 80


def test_a_job_that_goes_on_after_a_week_is_not_idle_for_that_long(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=1)
    with database.begin() as connection:
        pause_job(connection, job_id)
    execute(database, "UPDATE jobs SET wanted_at = now() - interval '1 week'")
    assert queue(database).idle_seconds == 0, "paused"
    with database.begin() as connection:
        resume_job(connection, job_id)
    assert queue(database).idle_seconds < 30


def test_jobs_bells_and_webhook_calls_that_wait_are_counted(database: Database) -> None:
    key = add_key(database)
    job = add_job(database, key)
    add_planned_job(database, key, shard_count=1)
    execute(database, f"UPDATE jobs SET paused_at = now() WHERE id = '{job.id}'")
    assert look(database).unplanned.count == 0, "paused"
    execute(database, "UPDATE jobs SET paused_at = NULL, wanted_at = now() - interval '30 s'")
    with database.begin() as connection:
        outbox.ring(connection, outbox.Tasks.RUN_SHARDS)
        for due, attempts in (("- interval '40 s'", 3), ("+ interval '1 h'", 1)):
            connection.execute(
                text(
                    "INSERT INTO deliveries (id, job_id, kind, payload, attempts, next_attempt_at) "
                    f"VALUES (:id, :job, 'job.succeeded', '{{}}', {attempts}, now() {due})"
                ),
                {"id": new_id("del"), "job": job.id},
            )
    state = look(database)
    assert state.jobs == {"queued": 1, "running": 1}
    assert state.unplanned.count == 1
    assert state.unplanned.oldest_seconds >= 30
    assert state.bells.count == 3, "two jobs to plan, one shard to run"
    assert (state.due_deliveries.count, state.retrying_deliveries) == (1, 2)
    assert 40 <= state.due_deliveries.oldest_seconds < 70


@pytest.mark.parametrize("freed", [promoted, sampled, resumed])
def test_a_job_waits_for_a_planner_from_when_it_may_be_planned(
    database: Database, freed: Callable[[Connection, Job], object]
) -> None:
    job = add_job(database, add_key(database))
    with database.begin() as connection:
        pause_job(connection, job.id)
    execute(database, "UPDATE jobs SET wanted_at = now() - interval '1 week'")
    if freed is not resumed:
        execute(database, "UPDATE jobs SET paused_at = NULL, held_at = created_at")
    assert look(database).unplanned == Waiting(0, 0.0)
    with database.begin() as connection:
        freed(connection, job)
    assert look(database).unplanned.count == 1
    assert look(database).unplanned.oldest_seconds < 30
    execute(database, "UPDATE jobs SET wanted_at = wanted_at - interval '50 s'")
    assert 50 <= look(database).unplanned.oldest_seconds < 80


def test_exports_wait_until_somebody_makes_them_and_again_when_that_falls_silent(
    database: Database,
) -> None:
    key = add_key(database)
    job = add_job(database, key)
    with database.begin() as connection:
        for number in range(3):
            new = NewExport(job.id, key, {"format": "coco"}, f"{number}", "manifest 1")
            create_export(connection, new)
        claim_export(connection, owner="w", lease_seconds=60)
    execute(database, "UPDATE exports SET created_at = now() - interval '90 s'")
    execute(database, "UPDATE exports SET running_at = running_at - interval '40 s'")
    state = look(database)
    assert (state.waiting_exports.count, state.running_exports.count) == (2, 1)
    assert 90 <= state.waiting_exports.oldest_seconds < 120
    assert 40 <= state.running_exports.oldest_seconds < 70
    execute(database, "UPDATE exports SET lease_expires_at = now() - interval '1 s'")
    state = look(database)
    assert (state.waiting_exports.count, state.running_exports.count) == (3, 0)


def test_a_preview_waits_from_when_the_last_image_of_its_sample_is_labelled(
    database: Database,
) -> None:
    key = add_key(database)
    job = add_planned_job(database, key, shard_count=3)
    with database.begin() as connection:
        add_preview(connection, job, key)
    execute(database, "UPDATE exports SET created_at = now() - interval '1 hour'")
    execute(database, "UPDATE jobs SET planning_at = now() - interval '40 minutes'")
    assert waiting_previews(database) == Waiting(0, 0.0), "its sample is not drawn"
    execute(database, "UPDATE jobs SET sample_images = 2, sample_shards = 2")
    assert waiting_previews(database) == Waiting(0, 0.0), "its sample is not labelled"
    execute(database, "UPDATE shards SET status = 'succeeded' WHERE number < 2")
    assert 2400 <= waiting_previews(database).oldest_seconds < 2430, "it has no slices"
    for number, age in enumerate(("70 s", "50 s", "10 s")):
        execute(
            database,
            f"""INSERT INTO slices (job_id, shard_number, start, token, count, status,
                    annotations_key, images_key, first_image_index, committed_at)
                VALUES ('{job}', {number}, 0, {number}, 1, 'committed', 'a', 'b', 0,
                    now() - interval '{age}')""",
        )
    found = waiting_previews(database)
    assert found.count == 1
    assert 50 <= found.oldest_seconds < 80, "the third shard is not of the sample"
    execute(database, "UPDATE exports SET created_at = now() - interval '5 s'")
    assert 5 <= waiting_previews(database).oldest_seconds < 35, "it was asked for later"
    with database.begin() as connection:
        assert claim_export(connection, owner="w", lease_seconds=60) is not None
    assert waiting_previews(database) == Waiting(0, 0.0)


def waiting_previews(database: Database) -> Waiting:
    """What is counted as waiting is what a worker would take."""
    found = look(database).waiting_exports
    with database.begin() as connection:
        assert exports_wait(connection) == (found.count > 0)
    return found


def test_a_preview_of_a_job_that_has_ended_waits_whatever_became_of_its_sample(
    database: Database,
) -> None:
    key = add_key(database)
    job = add_planned_job(database, key, shard_count=1)
    with database.begin() as connection:
        add_preview(connection, job, key)
    execute(database, "UPDATE exports SET created_at = now() - interval '1 hour'")
    execute(database, "UPDATE jobs SET status = 'canceled', finished_at = now() - interval '50 s'")
    found = waiting_previews(database)
    assert found.count == 1
    assert 50 <= found.oldest_seconds < 80


_THOUSAND_SHARDS = """
    INSERT INTO shards (job_id, number, status, first_image_index, image_count)
    SELECT :job, n, 'succeeded', n * 256, 256 FROM generate_series(0, 999) AS n
"""
_THOUSAND_SLICES = """
    INSERT INTO slices (job_id, shard_number, start, token, count, status, annotations_key,
                        images_key, first_image_index, committed_at)
    SELECT :job, n, 0, n, 256, 'committed', 'a', 'b', n * 256, now() - make_interval(secs => n)
      FROM generate_series(0, 999) AS n
"""


def test_of_twenty_thousand_shards_only_those_that_are_open_are_read(database: Database) -> None:
    key = add_key(database)
    for _ in range(20):
        ended = add_job(database, key).id
        with database.begin() as connection:
            connection.execute(text(_THOUSAND_SHARDS), {"job": ended})
            connection.execute(text(_THOUSAND_SLICES), {"job": ended})
    execute(database, "UPDATE jobs SET status = 'succeeded'")
    execute(database, f"UPDATE shards SET status = 'pending' WHERE job_id = '{ended}'")
    execute(database, f"UPDATE jobs SET status = 'running' WHERE id = '{ended}'")
    preview = NewExport(ended, key, {"images": 2}, "0", "sample", ResultUse.PREVIEW)
    with database.begin() as connection:
        create_export(connection, preview)
    execute(database, "UPDATE shards SET status = 'succeeded' WHERE number < 4")
    execute(database, f"UPDATE jobs SET sample_shards = 4 WHERE id = '{ended}'")
    execute(
        database,
        "INSERT INTO events (job_id, kind) "
        "SELECT id, 'shard.running' FROM jobs, generate_series(1, 1000)",
    )
    execute(database, "ANALYZE")
    plans = {name: plan(database, statement) for name, statement in STATEMENTS.items()}
    assert "ix_shards_open" in plans["queues"]
    assert "ix_slices_committed_at" in plans["queues"]
    for name, shown in plans.items():
        assert not re.search(r"Seq Scan on (shards|slices|events)", shown), (name, shown)
    assert "pk_slices" in plans["waiting exports"]
    assert queue(database).waiting_shards == 996
    assert queue(database).idle_seconds < 60


def test_of_many_webhook_calls_only_those_that_are_due_are_read(database: Database) -> None:
    job = add_job(database, add_key(database)).id
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO deliveries (id, job_id, kind, payload, attempts, delivered_at) "
                "SELECT 'del_' || n, :job, 'job.succeeded', '{}', 1, now() "
                "FROM generate_series(1, 20000) AS n"
            ),
            {"job": job},
        )
    execute(database, "ANALYZE deliveries")
    for name in ("due deliveries", "retrying deliveries"):
        assert "ix_deliveries_due" in plan(database, STATEMENTS[name])


def plan(database: Database, statement: Any) -> str:
    with database.begin() as connection:
        lines = connection.execute(text(f"EXPLAIN (ANALYZE) {statement.text}")).scalars()
        return "\n".join(lines)
