"""The one guarded UPDATE behind every change of status, with its event row."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, func, update

from domain.lifecycle import JobStatus, ShardStatus, job_sources, shard_sources
from storage.events import record_event
from storage.tables import jobs, shards

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
    """Change a shard's status as the holder of `token`; False when the lease is another's."""
    statement = (
        update(shards)
        .where(shards.c.job_id == job_id, shards.c.number == number)
        .where(shards.c.lease_token == token, shards.c.status.in_(shard_sources(to)))
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
        .values(status=ShardStatus.CANCELED)
    )
    count = connection.execute(statement).rowcount
    if count:
        record_event(connection, job_id, kind="shards.canceled", data={"count": count})
    return count
