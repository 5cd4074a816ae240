from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from domain.errors import LeaseLost
from domain.lifecycle import Wish
from domain.planning import Span
from storage import jobs, shards, slices, transitions
from storage.database import Database
from storage.progress import progress_of
from storage.shards import ShardLease, SliceCounts
from tests.integration.storage.rows import (
    MODELS,
    add_key,
    add_planned_job,
    claim,
    claimed,
    expire_leases,
    open_slice,
)
from tests.services import wait_until

COUNTS = SliceCounts(succeeded=60, failed=4, instances=100)
PARTS = {"annotations": {}, "images": {}, "item_categories": []}


def commit(database: Database, lease: ShardLease, span: Span) -> None:
    with database.begin() as connection:
        shards.commit_slice(connection, lease, span, counts=COUNTS, parts=PARTS)


def statuses(database: Database) -> list[str]:
    with database.begin() as connection:
        rows = connection.execute(text("SELECT status FROM slices ORDER BY start, token"))
        return list(rows.scalars())


def test_no_two_workers_get_the_same_shard(database: Database) -> None:
    add_planned_job(database, add_key(database), shard_count=40)
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda n: claimed(database, owner=f"w{n}"), range(40)))
    assert sorted(lease.number for lease in leases) == list(range(40))
    assert len({lease.token for lease in leases}) == 40
    assert claim(database) is None


def test_an_attempt_is_counted_before_the_run_and_starts_anew_with_progress(
    database: Database,
) -> None:
    add_planned_job(database, add_key(database), shard_count=1)
    assert claimed(database).attempts == 1
    expire_leases(database)
    second = claimed(database)
    assert second.attempts == 2
    commit(database, second, open_slice(database, second, start=0, count=64))
    expire_leases(database)
    third = claimed(database)
    assert (third.attempts, third.committed) == (2, 64)


def test_a_stale_runner_can_change_nothing(database: Database) -> None:
    add_planned_job(database, add_key(database), shard_count=1)
    stale = claimed(database, owner="stale")
    span = open_slice(database, stale, start=0, count=64)
    expire_leases(database)
    fresh = claimed(database, owner="fresh")
    with pytest.raises(LeaseLost):
        commit(database, stale, span)
    with pytest.raises(LeaseLost):
        open_slice(database, stale, start=64, count=36)
    with pytest.raises(LeaseLost), database.begin() as connection:
        shards.renew_lease(connection, stale, lease_seconds=60)
    with database.begin() as connection:
        assert not shards.complete_shard(connection, stale)
        assert not shards.release_shard(connection, stale)
    commit(database, fresh, open_slice(database, fresh, start=0, count=64))
    assert statuses(database) == ["lost", "committed"]


def test_a_slice_is_committed_once(database: Database) -> None:
    add_planned_job(database, add_key(database), shard_count=1)
    lease = claimed(database)
    span = open_slice(database, lease, start=0, count=64)
    commit(database, lease, span)
    with pytest.raises(LeaseLost):
        commit(database, lease, span)


def test_the_next_runner_is_told_what_was_in_flight(database: Database) -> None:
    add_planned_job(database, add_key(database), shard_count=1)
    first = claimed(database)
    commit(database, first, open_slice(database, first, start=0, count=64))
    open_slice(database, first, start=64, count=36)
    expire_leases(database)
    assert claimed(database).lost == (Span(64, 36),)


def test_a_shard_given_back_blames_nobody_and_costs_no_attempt(database: Database) -> None:
    add_planned_job(database, add_key(database), shard_count=1)
    first = claimed(database)
    open_slice(database, first, start=0, count=64)
    with database.begin() as connection:
        assert shards.release_shard(connection, first)
    second = claimed(database)
    assert (second.attempts, second.lost) == (1, ())


def test_a_shard_is_retried_after_its_delay(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=1)
    lease = claimed(database)
    with database.begin() as connection:
        shards.retry_shard_later(connection, lease, error="store away", delay_seconds=60)
    assert claim(database) is None
    with database.begin() as connection:
        connection.execute(
            text("UPDATE shards SET available_at = now() WHERE job_id = :id"), {"id": job_id}
        )
    assert claimed(database).attempts == 2


def test_a_small_job_does_not_wait_behind_a_large_one(database: Database) -> None:
    large = add_planned_job(database, add_key(database, "large"), shard_count=50)
    assert [claimed(database).job_id for _ in range(4)] == [large] * 4
    small = add_planned_job(database, add_key(database, "small"), shard_count=2)
    assert [claimed(database).job_id for _ in range(2)] == [small, small]


def test_jobs_of_one_key_share_its_turns(database: Database) -> None:
    key = add_key(database)
    first = add_planned_job(database, key, shard_count=10)
    second = add_planned_job(database, key, shard_count=10)
    order = [claimed(database).job_id for _ in range(6)]
    assert order.count(first) == order.count(second) == 3


def test_priority_comes_before_fairness(database: Database) -> None:
    key = add_key(database)
    add_planned_job(database, key, shard_count=5)
    urgent = add_planned_job(database, key, shard_count=5, priority=10)
    assert [claimed(database).job_id for _ in range(5)] == [urgent] * 5


def test_a_model_nobody_here_serves_is_left_alone(database: Database) -> None:
    add_planned_job(database, add_key(database), shard_count=1)
    with database.begin() as connection:
        assert shards.claim_shard(connection, owner="w", models=["other"], lease_seconds=60) is None


def test_a_canceled_job_is_not_claimed_and_its_runner_hears_of_it(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=2)
    lease = claimed(database)
    with database.begin() as connection:
        assert shards.renew_lease(connection, lease, lease_seconds=60) is Wish.WANTED
        jobs.request_cancel(connection, job_id)
        assert shards.renew_lease(connection, lease, lease_seconds=60) is Wish.UNWANTED
        assert progress_of(connection, [job_id])[job_id].canceled == 100
    assert claim(database) is None


def test_a_dead_runner_of_a_canceled_job_does_not_keep_it_open(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=1)
    claimed(database)
    with database.begin() as connection:
        jobs.request_cancel(connection, job_id)
        assert not jobs.needs_finishing(connection, job_id)
    expire_leases(database)
    with database.begin() as connection:
        assert transitions.cancel_abandoned_shards(connection) == 1
        assert jobs.jobs_to_finish(connection) == [job_id]


def test_progress_adds_up_the_shards(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=3)
    lease = claimed(database)
    commit(database, lease, open_slice(database, lease, start=0, count=64))
    with database.begin() as connection:
        progress = progress_of(connection, [job_id, "job_none"])
    found = progress[job_id]
    assert (found.total, found.processing, found.succeeded, found.failed) == (300, 36, 60, 4)
    assert found.instances == 100
    assert found.per_second is not None
    assert progress["job_none"].total == 0


def test_parts_of_uncommitted_slices_are_loose_once_the_shard_has_ended(
    database: Database,
) -> None:
    add_planned_job(database, add_key(database), shard_count=1)
    first = claimed(database)
    open_slice(database, first, start=0, count=64)
    expire_leases(database)
    second = claimed(database)
    commit(database, second, open_slice(database, second, start=0, count=64))
    with database.begin() as connection:
        assert slices.loose_slices(connection) == []
        shards.complete_shard(connection, second)
        loose = slices.loose_slices(connection)
        assert [one.token for one in loose] == [first.token]
        slices.forget_slices(connection, loose)
        assert slices.loose_slices(connection) == []
    assert statuses(database) == ["committed"]


def test_a_slice_cut_short_counts_what_it_has(database: Database) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=1)
    lease = claimed(database)
    open_slice(database, lease, start=0, count=64)
    commit(database, lease, Span(0, 10))
    with database.begin() as connection:
        assert slices.slice_of_image(connection, job_id, 9) is not None
        assert slices.slice_of_image(connection, job_id, 10) is None


@pytest.mark.parametrize("give_back", [shards.release_shard, "retry"])
def test_a_shard_given_back_after_the_cancel_does_not_keep_the_job_open(
    database: Database, give_back: object
) -> None:
    job_id = add_planned_job(database, add_key(database), shard_count=1)
    lease = claimed(database)
    with database.begin() as connection:
        jobs.request_cancel(connection, job_id)
        if give_back == "retry":
            shards.retry_shard_later(connection, lease, error="x", delay_seconds=60)
        else:
            shards.release_shard(connection, lease)
    with database.begin() as connection:
        assert transitions.cancel_abandoned_shards(connection) == 1
        assert jobs.jobs_to_finish(connection) == [job_id]


def test_a_claim_locks_one_shard_and_leaves_the_others_to_other_workers(
    database: Database,
) -> None:
    for _ in range(3):
        add_planned_job(database, add_key(database), shard_count=1)
    with database.begin() as first, database.begin() as second, database.begin() as third:
        leases = [
            shards.claim_shard(connection, owner="w", models=MODELS, lease_seconds=60)
            for connection in (first, second, third)
        ]
    assert len({lease.job_id for lease in leases if lease}) == 3


def test_images_that_only_failed_are_no_progress_of_a_shard(database: Database) -> None:
    add_planned_job(database, add_key(database), shard_count=1)
    claimed(database)
    expire_leases(database)
    lease = claimed(database)
    span = open_slice(database, lease, start=0, count=1)
    with database.begin() as connection:
        nothing = SliceCounts(succeeded=0, failed=1, instances=0)
        shards.commit_slice(connection, lease, span, counts=nothing, parts=PARTS)
    expire_leases(database)
    assert claimed(database).attempts == 3


def test_a_shard_is_locked_before_its_slices_as_by_a_claim(database: Database) -> None:
    """Else a late runner and the claim of its shard could wait for each other."""
    add_planned_job(database, add_key(database), shard_count=1)
    lease = claimed(database)
    open_slice(database, lease, start=0, count=10)

    def release() -> bool:
        with database.begin() as connection:
            return shards.release_shard(connection, lease)

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as holder:
            holder.execute(text("SELECT 1 FROM shards FOR UPDATE"))
            released = pool.submit(release)
            wait_until(lambda: waits_for_a_lock(database))
            holder.execute(text("SELECT 1 FROM slices FOR UPDATE NOWAIT"))
        assert released.result()
    assert statuses(database) == ["released"]


def waits_for_a_lock(database: Database) -> bool:
    query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with database.begin() as connection:
        return bool(connection.execute(query).scalar_one())
