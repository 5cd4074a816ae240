"""Rows for the tests of leases and transitions."""

from sqlalchemy import text

from storage import jobs, keys, shards
from storage.database import Database
from storage.jobs import Job, NewJob
from storage.shards import NewShard, OpenSlice, ShardLease, Span

MODELS = ["demo-sam3"]


def add_key(database: Database, name: str = "tester") -> str:
    with database.begin() as connection:
        return keys.add_key(connection, name, secret=keys.new_secret(), is_admin=False).id


def add_job(database: Database, key_id: str, *, priority: int = 0) -> Job:
    new = NewJob(
        owner_key_id=key_id,
        model="demo-sam3",
        floor=0.1,
        prompts=[{"text": "red circle"}],
        source={"type": "prefix", "uri": "s3://images/a"},
        request_sha256="0",
        priority=priority,
    )
    with database.begin() as connection:
        return jobs.create_job(connection, new)[0]


def add_planned_job(database: Database, key_id: str, *, shard_count: int, priority: int = 0) -> str:
    """A job whose shards of 100 images wait, with planning done."""
    job_id = add_job(database, key_id, priority=priority).id
    with database.begin() as connection:
        shards.add_shards(
            connection, job_id, [NewShard(n, 100 * n, 100) for n in range(shard_count)]
        )
        connection.execute(
            text("UPDATE jobs SET status = 'running' WHERE id = :id"), {"id": job_id}
        )
    return job_id


def claim(database: Database, *, owner: str = "w1", seconds: float = 60) -> ShardLease | None:
    with database.begin() as connection:
        return shards.claim_shard(connection, owner=owner, models=MODELS, lease_seconds=seconds)


def claimed(database: Database, *, owner: str = "w1", seconds: float = 60) -> ShardLease:
    lease = claim(database, owner=owner, seconds=seconds)
    assert lease is not None
    return lease


def expire_leases(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE shards SET lease_expires_at = now() - interval '1 second'"))


def open_slice(database: Database, lease: ShardLease, *, start: int, count: int) -> Span:
    span = Span(start, count)
    name = f"{lease.number}-{start}-{lease.token}"
    with database.begin() as connection:
        shards.open_slice(connection, lease, OpenSlice(span, f"a{name}", f"i{name}"))
    return span
