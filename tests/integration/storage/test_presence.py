"""Workers that say they live."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from storage.database import Database
from storage.presence import (
    Memory,
    Presence,
    Worker,
    forget_silent,
    living_workers,
    say_gone,
    say_present,
)
from tests.integration.storage.rows import MODELS, add_key, add_planned_job, claimed

BULK = Presence(
    name="gpu-1:7",
    role="bulk",
    version="1",
    serves=tuple(MODELS),
    loaded=(),
    device=None,
    memory=Memory(3, 2**37),
)


def say(database: Database, *presences: Presence) -> None:
    with database.begin() as connection:
        for presence in presences:
            say_present(connection, presence)


def living(database: Database) -> list[Worker]:
    with database.begin() as connection:
        return living_workers(connection)


def execute(database: Database, statement: str) -> None:
    with database.begin() as connection:
        connection.execute(text(statement))


def test_what_was_said_last_counts_and_since_when_it_lives(database: Database) -> None:
    say(database, BULK)
    (first,) = living(database)
    later = replace(BULK, loaded=("m",), device="cuda:0 NVIDIA H200", memory=Memory(2**36, 2**37))
    say(database, later)
    (second,) = living(database)
    assert (first.presence, second.presence) == (BULK, later)
    assert second.started_at == first.started_at
    assert second.seen_at > first.seen_at


def test_who_falls_silent_or_ends_is_not_listed(database: Database) -> None:
    planner = replace(BULK, name="cpu-1:1", role="planner", serves=())
    say(database, planner, BULK)
    assert [one.presence.role for one in living(database)] == ["bulk", "planner"]
    execute(database, "UPDATE workers SET seen_at = now() - interval '21 s' WHERE role = 'bulk'")
    assert [one.presence.role for one in living(database)] == ["planner"]
    with database.begin() as connection:
        say_gone(connection, planner.name)
    assert living(database) == []


def test_the_dead_are_forgotten_after_an_hour(database: Database) -> None:
    say(database, BULK, replace(BULK, name="gpu-2:9"))
    execute(database, "UPDATE workers SET seen_at = now() - interval '59 min'")
    execute(
        database, "UPDATE workers SET seen_at = now() - interval '61 min' WHERE name = 'gpu-2:9'"
    )
    with database.begin() as connection:
        forget_silent(connection)
        left = connection.execute(text("SELECT name FROM workers")).scalars().all()
    assert left == ["gpu-1:7"]


def test_who_holds_a_shard_is_busy_until_its_lease_runs_out(database: Database) -> None:
    add_planned_job(database, add_key(database), shard_count=1)
    claimed(database, owner="gpu-1:7")
    say(database, BULK, replace(BULK, name="gpu-2:9"))
    assert {one.presence.name: one.is_busy for one in living(database)} == {
        "gpu-1:7": True,
        "gpu-2:9": False,
    }
    execute(database, "UPDATE shards SET lease_expires_at = now() - interval '1 s'")
    assert not any(one.is_busy for one in living(database))


@pytest.mark.parametrize("table", ["jobs", "exports"])
def test_who_plans_or_exports_is_busy(database: Database, table: str) -> None:
    job = add_planned_job(database, add_key(database), shard_count=1)
    execute(
        database,
        "INSERT INTO exports (id, job_id, owner_key_id, status, options, options_sha256, result) "
        f"SELECT 'exp_1', id, owner_key_id, 'running', '{{}}', '', '' FROM jobs WHERE id = '{job}'",
    )
    say(database, replace(BULK, role="planner"))
    assert [one.is_busy for one in living(database)] == [False]
    execute(
        database,
        f"UPDATE {table} SET lease_owner = 'gpu-1:7', lease_expires_at = now() + interval '1 min'",
    )
    assert [one.is_busy for one in living(database)] == [True]
