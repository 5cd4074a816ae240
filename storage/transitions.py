"""The one guarded UPDATE behind every change of status, with its event row."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, func, null, select, true, update
from sqlalchemy.dialects.postgresql import array

from domain.lifecycle import (
    SHARD_TRANSITIONS,
    JobStatus,
    ShardStatus,
    job_sources,
    shard_sources,
)
from storage.conditions import JOB_IS_OPEN, SHARD_IS_OPEN, SLICE_HAS_FAILURES
from storage.events import record_event
from storage.tables import jobs, lease_tokens, shards, slices

_TIMESTAMP_OF = {
    JobStatus.PLANNING: "planning_at",
    JobStatus.RUNNING: "running_at",
    JobStatus.SUCCEEDED: "finished_at",
    JobStatus.FAILED: "finished_at",
    JobStatus.CANCELED: "finished_at",
}


def move_job(
    connection: Connection, job_id: str, *, to: JobStatus, when: ColumnElement[bool] | None = None
) -> bool:
    """Change a job's status if the table allows it and `when` holds; False when it did not."""
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.status.in_(job_sources(to)))
        .values({"status": to, _TIMESTAMP_OF[to]: func.now()})
    )
    if when is not None:
        statement = statement.where(when)
    if connection.execute(statement).rowcount == 0:
        return False
    record_event(connection, job_id, kind=f"job.{to}")
    return True


def move_shard(
    connection: Connection,
    job_id: str,
    number: int,
    *,
    to: ShardStatus,
    token: int,
    values: dict[str, Any] | None = None,
) -> bool:
    """Change a running shard's status as the holder of `token`; False when the lease is another's.

    The token alone is not enough: the shard may have ended, and been opened again, since.
    """
    assert to in SHARD_TRANSITIONS[ShardStatus.RUNNING]
    statement = (
        update(shards)
        .where(shards.c.job_id == job_id, shards.c.number == number)
        .where(shards.c.lease_token == token, shards.c.status == ShardStatus.RUNNING)
        .values({"status": to, **(values or {})})
    )
    if connection.execute(statement).rowcount == 0:
        return False
    data = {key: value for key, value in (values or {}).items() if key == "last_error"}
    record_event(connection, job_id, kind=f"shard.{to}", shard_number=number, data=data)
    return True


def cancel_pending_shards(connection: Connection, job_id: str) -> int:
    """Nobody holds a pending shard, so no token is asked for; one event row for all."""
    statement = (
        update(shards)
        .where(shards.c.job_id == job_id, shards.c.status == ShardStatus.PENDING)
        .values(status=ShardStatus.CANCELED, retry_codes=null())
    )
    count = connection.execute(statement).rowcount
    if count:
        record_event(connection, job_id, kind="shards.canceled", data={"count": count})
    return count


def cancel_abandoned_shards(connection: Connection) -> int:
    """For the sweeper: shards of unwanted jobs that nobody runs, and so nobody ends: given back
    after the wish, or left by a runner that died."""
    unwanted = select(jobs.c.id).where(
        JOB_IS_OPEN,
        jobs.c.cancel_requested_at.is_not(None) | jobs.c.error.is_not(None),
    )
    statement = (
        update(shards)
        .where(shards.c.job_id.in_(unwanted), SHARD_IS_OPEN)
        .where((shards.c.status == ShardStatus.PENDING) | (shards.c.lease_expires_at < func.now()))
        .values(
            status=ShardStatus.CANCELED,
            retry_codes=null(),
            lease_token=lease_tokens.next_value(),
        )
        .returning(shards.c.job_id, shards.c.number)
    )
    ended = connection.execute(statement).all()
    for job_id, number in ended:
        record_event(connection, job_id, kind="shard.canceled", shard_number=number)
    return len(ended)


def reopen_shards(connection: Connection, job_id: str, *, codes: Collection[str]) -> int:
    """Have ended shards run again that have failed images with one of `codes` (none: with any).

    Nobody holds an ended shard, so no token is asked for; one event row for all.
    """
    failures = slices.c.parts["failures"]  # those of before have none, and may have any
    matches = func.coalesce(failures.has_any(array(sorted(codes), type_=Text)), true())
    numbers = select(slices.c.shard_number).where(slices.c.job_id == job_id, SLICE_HAS_FAILURES)
    ended = shard_sources(ShardStatus.PENDING) - {ShardStatus.RUNNING}
    statement = (
        update(shards)
        .where(shards.c.job_id == job_id, shards.c.status.in_(ended))
        .where(shards.c.number.in_(numbers.where(matches) if codes else numbers))
        .values(
            status=ShardStatus.PENDING,
            retry_codes={"codes": sorted(codes), "position": 0},
            attempts=0,
            available_at=func.now(),
            lease_expires_at=None,
            last_error=None,
        )
    )
    count = connection.execute(statement).rowcount
    if count:
        data = {"count": count, "codes": sorted(codes)}
        record_event(connection, job_id, kind="shards.reopened", data=data)
    return count
