"""Who is served next. Lots are drawn among equals; the bounds below fail once in 10^8 runs."""

import pytest
from sqlalchemy import text

from storage import shards
from storage.database import Database
from tests.integration.storage.rows import add_key, add_planned_job, claimed

LARGE = 3907  # shards of a million images


def add_large_job(database: Database, key: str, *, priority: int = 0) -> str:
    job_id = add_planned_job(database, key, shard_count=1, priority=priority)
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO shards (job_id, number, status, first_image_index, image_count)
                SELECT :id, n, 'pending', n * 256, 256 FROM generate_series(1, :last) n
            """),
            {"id": job_id, "last": LARGE - 1},
        )
    return job_id


def serve(database: Database) -> str:
    """What a single worker does: nothing else runs when it asks for a shard."""
    lease = claimed(database)
    with database.begin() as connection:
        assert shards.complete_shard(connection, lease)
    return lease.job_id


@pytest.mark.parametrize("is_own", [True, False], ids=["one key", "two keys"])
def test_beside_busy_workers_a_small_job_gets_the_next_claims(
    database: Database, is_own: bool
) -> None:
    key = add_key(database, "large")
    large = add_large_job(database, key)
    assert {claimed(database).job_id for _ in range(8)} == {large}
    small = add_planned_job(database, key if is_own else add_key(database, "small"), shard_count=1)
    assert claimed(database).job_id == small
    assert claimed(database).job_id == large


@pytest.mark.parametrize("is_own", [True, False], ids=["one key", "two keys"])
def test_a_single_worker_too_comes_to_a_small_job_soon(database: Database, is_own: bool) -> None:
    key = add_key(database, "large")
    large = add_large_job(database, key)
    assert {serve(database) for _ in range(5)} == {large}
    small = add_planned_job(database, key if is_own else add_key(database, "small"), shard_count=2)
    assert [serve(database) for _ in range(40)].count(small) == 2


def test_a_single_worker_comes_back_to_a_large_job_whatever_small_ones_arrive(
    database: Database,
) -> None:
    """Neither many jobs of another key nor new ones all the time keep it waiting."""
    large = add_large_job(database, add_key(database, "large"))
    other = add_key(database, "small")
    for _ in range(20):
        add_planned_job(database, other, shard_count=5)
    served = []
    for _ in range(80):
        add_planned_job(database, other, shard_count=1)
        served.append(serve(database))
    assert 15 <= served.count(large) <= 65


def test_keys_have_equal_shares_however_many_jobs_they_have(database: Database) -> None:
    one = add_large_job(database, add_key(database, "one"))
    key = add_key(database, "many")
    for _ in range(4):
        add_planned_job(database, key, shard_count=10)
    served = [claimed(database).job_id for _ in range(20)]
    assert served.count(one) == 10


def test_an_urgent_job_comes_first_also_behind_a_large_one_and_then_the_others(
    database: Database,
) -> None:
    key = add_key(database)
    large = add_large_job(database, key, priority=5)
    urgent = add_planned_job(database, key, shard_count=3, priority=6)
    idle = add_planned_job(database, key, shard_count=1, priority=4)
    served = [claimed(database).job_id for _ in range(10)]
    assert served == [urgent] * 3 + [large] * 7
    assert idle not in served
