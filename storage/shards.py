"""Shards: claimed by the statement that keeps the queue fair, held by lease and token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, insert, literal, select, text, update

from domain.errors import LeaseLost
from domain.lifecycle import OPEN_JOB, OPEN_SHARD, ShardStatus
from domain.planning import Span
from storage.events import record_event
from storage.tables import jobs, lease_tokens, shards, slices
from storage.transitions import move_shard


@dataclass(frozen=True, slots=True)
class NewShard:
    number: int
    first_image_index: int
    image_count: int


@dataclass(frozen=True, slots=True)
class ShardLease:
    """The right to run a shard. `token` fences: a later lease makes an earlier one void.

    `lost` are the slices that earlier runners had in flight when they died.
    """

    job_id: str
    number: int
    token: int
    attempts: int
    first_image_index: int
    image_count: int
    committed: int
    lost: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class OpenSlice:
    span: Span
    annotations_key: str
    images_key: str


@dataclass(frozen=True, slots=True)
class SliceCounts:
    succeeded: int
    failed: int
    instances: int


def add_shards(connection: Connection, job_id: str, new: Sequence[NewShard]) -> None:
    rows = [
        {
            "job_id": job_id,
            "number": shard.number,
            "status": ShardStatus.PENDING,
            "first_image_index": shard.first_image_index,
            "image_count": shard.image_count,
        }
        for shard in new
    ]
    connection.execute(insert(shards), rows)
    record_event(connection, job_id, kind="shards.planned", data={"count": len(rows)})


_CLAIM = text("""
    WITH busy AS (
        SELECT s.job_id, j.owner_key_id, count(*) AS running
          FROM shards s JOIN jobs j ON j.id = s.job_id
         WHERE s.status = 'running' AND s.lease_expires_at >= now()
         GROUP BY s.job_id, j.owner_key_id
    ), candidate AS (
        SELECT j.id, j.priority, j.created_at,
               coalesce((SELECT sum(running) FROM busy WHERE owner_key_id = j.owner_key_id), 0)
                   AS running_for_owner,
               coalesce((SELECT running FROM busy WHERE job_id = j.id), 0) AS running_for_job
          FROM jobs j
         WHERE j.status IN ('queued', 'planning', 'running')
           AND j.cancel_requested_at IS NULL AND j.error IS NULL
           AND j.model = ANY(:models)
         ORDER BY priority DESC, running_for_owner, running_for_job, created_at
    ), chosen AS (
        -- A nested loop that stops at the first shard found, so that one row is locked.
        SELECT next.job_id, next.number
          FROM candidate
         CROSS JOIN LATERAL (
            SELECT s.job_id, s.number FROM shards s
             WHERE s.job_id = candidate.id AND s.available_at <= now()
               AND (s.status = 'pending'
                    OR (s.status = 'running' AND s.lease_expires_at < now()))
             ORDER BY s.number LIMIT 1
               FOR UPDATE SKIP LOCKED
         ) AS next
         LIMIT 1
    ), dead AS (
        UPDATE slices SET status = 'lost' FROM chosen
         WHERE slices.job_id = chosen.job_id AND slices.shard_number = chosen.number
           AND slices.status = 'open'
    )
    UPDATE shards s
       SET status = 'running', attempts = attempts + 1, lease_owner = :owner,
           lease_token = nextval('lease_tokens'),
           lease_expires_at = now() + make_interval(secs => :lease_seconds)
      FROM chosen
     WHERE s.job_id = chosen.job_id AND s.number = chosen.number
    RETURNING s.job_id, s.number, s.lease_token AS token, s.attempts, s.first_image_index,
              s.image_count, s.committed
""")


def claim_shard(
    connection: Connection, *, owner: str, models: Sequence[str], lease_seconds: float
) -> ShardLease | None:
    """Lease the next shard: by priority, then to the key and the job that have least running.

    A small job therefore never waits behind the queue of a large one. The attempt is counted
    here, before the run, and what a dead runner had in flight is marked as lost.
    """
    values = {"owner": owner, "models": list(models), "lease_seconds": lease_seconds}
    row = connection.execute(_CLAIM, values).one_or_none()
    if row is None:
        return None
    record_event(
        connection,
        row.job_id,
        kind="shard.running",
        shard_number=row.number,
        data={"owner": owner, "token": row.token, "attempt": row.attempts},
    )
    lost = _lost_spans(connection, row.job_id, row.number)
    return ShardLease(**row._asdict(), lost=lost)


def _lost_spans(connection: Connection, job_id: str, number: int) -> tuple[Span, ...]:
    query = select(slices.c.start, slices.c.count).where(
        slices.c.job_id == job_id, slices.c.shard_number == number, slices.c.status == "lost"
    )
    return tuple(Span(*row) for row in connection.execute(query))


_CLAIMABLE = text("""
    SELECT EXISTS (
        SELECT 1 FROM shards s JOIN jobs j ON j.id = s.job_id
         WHERE s.status IN ('pending', 'running') AND s.available_at <= now()
           AND (s.status = 'pending' OR s.lease_expires_at < now())
           AND j.cancel_requested_at IS NULL AND j.error IS NULL)
""")


def work_is_waiting(connection: Connection) -> bool:
    return bool(connection.execute(_CLAIMABLE).scalar_one())


def cancel_abandoned_shards(connection: Connection) -> int:
    """For the sweeper: shards of unwanted jobs that nobody runs, and so nobody ends: given back
    after the wish, or left by a runner that died."""
    unwanted = select(jobs.c.id).where(
        jobs.c.status.in_(OPEN_JOB),
        jobs.c.cancel_requested_at.is_not(None) | jobs.c.error.is_not(None),
    )
    statement = (
        update(shards)
        .where(shards.c.job_id.in_(unwanted), shards.c.status.in_(OPEN_SHARD))
        .where((shards.c.status == ShardStatus.PENDING) | (shards.c.lease_expires_at < func.now()))
        .values(status=ShardStatus.CANCELED, lease_token=lease_tokens.next_value())
        .returning(shards.c.job_id, shards.c.number)
    )
    ended = connection.execute(statement).all()
    for job_id, number in ended:
        record_event(connection, job_id, kind="shard.canceled", shard_number=number)
    return len(ended)


def _held(lease: ShardLease) -> Any:
    return and_(
        shards.c.job_id == lease.job_id,
        shards.c.number == lease.number,
        shards.c.lease_token == lease.token,
        shards.c.status == ShardStatus.RUNNING,
    )


def renew_lease(connection: Connection, lease: ShardLease, *, lease_seconds: float) -> bool:
    """Keep the lease. Returns whether the job is still wanted; raises `LeaseLost`."""
    expiry = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, lease_seconds)
    statement = update(shards).where(_held(lease)).values(lease_expires_at=expiry)
    if connection.execute(statement).rowcount == 0:
        raise LeaseLost(f"{lease.job_id} shard {lease.number}")
    wanted = select(jobs.c.cancel_requested_at.is_(None) & jobs.c.error.is_(None))
    return bool(connection.execute(wanted.where(jobs.c.id == lease.job_id)).scalar_one())


def open_slice(connection: Connection, lease: ShardLease, new: OpenSlice) -> None:
    """Record what is about to run and where its parts will lie; raises `LeaseLost`."""
    row = {
        "job_id": lease.job_id,
        "shard_number": lease.number,
        "start": new.span.start,
        "token": lease.token,
        "count": new.span.count,
        "status": "open",
        "annotations_key": new.annotations_key,
        "images_key": new.images_key,
        "first_image_index": lease.first_image_index + new.span.start,
    }
    source = select(*(literal(v, slices.c[k].type) for k, v in row.items())).where(
        select(shards.c.number).where(_held(lease)).exists()
    )
    opened = insert(slices).from_select(list(row), source).returning(slices.c.start)
    if connection.execute(opened).first() is None:
        raise LeaseLost(f"{lease.job_id} shard {lease.number}")


def commit_slice(
    connection: Connection,
    lease: ShardLease,
    span: Span,
    *,
    counts: SliceCounts,
    parts: dict[str, Any],
) -> None:
    """Make a slice's parts the result, by compare-and-set on the token; raises `LeaseLost`.

    An image that was labelled is progress, and attempts are counted anew; images that only
    failed are not: a machine that kills every run must not go through a job like that.
    """
    progressed = (
        update(shards)
        .where(_held(lease), shards.c.committed == span.start)
        .values(
            committed=span.end,
            succeeded=shards.c.succeeded + counts.succeeded,
            failed=shards.c.failed + counts.failed,
            instances=shards.c.instances + counts.instances,
            attempts=1 if counts.succeeded else shards.c.attempts,
        )
    )
    if connection.execute(progressed).rowcount == 0:
        raise LeaseLost(f"{lease.job_id} shard {lease.number}")
    connection.execute(
        update(slices)
        .where(
            slices.c.job_id == lease.job_id,
            slices.c.shard_number == lease.number,
            slices.c.start == span.start,
            slices.c.token == lease.token,
        )
        .values(
            status="committed",
            count=span.count,
            failed=counts.failed,
            parts=parts,
            committed_at=func.now(),
        )
    )


def complete_shard(connection: Connection, lease: ShardLease) -> bool:
    return move_shard(
        connection, lease.job_id, lease.number, to=ShardStatus.SUCCEEDED, token=lease.token
    )


def cancel_shard(connection: Connection, lease: ShardLease) -> bool:
    """End a running shard of a job that is no longer wanted; committed slices stay."""
    _mark_released(connection, lease)
    return move_shard(
        connection, lease.job_id, lease.number, to=ShardStatus.CANCELED, token=lease.token
    )


def release_shard(connection: Connection, lease: ShardLease) -> bool:
    """Give the shard back unharmed (a worker that was asked to stop): no attempt is counted."""
    _mark_released(connection, lease)
    values = {"attempts": func.greatest(shards.c.attempts - 1, 0), "lease_expires_at": None}
    return move_shard(
        connection,
        lease.job_id,
        lease.number,
        to=ShardStatus.PENDING,
        token=lease.token,
        values=values,
    )


def retry_shard_later(
    connection: Connection, lease: ShardLease, *, error: str, delay_seconds: float
) -> bool:
    """An infrastructure fault ended the run: let it be run again, but not at once."""
    _mark_released(connection, lease)
    later = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, delay_seconds)
    return move_shard(
        connection,
        lease.job_id,
        lease.number,
        to=ShardStatus.PENDING,
        token=lease.token,
        values={"available_at": later, "lease_expires_at": None, "last_error": error},
    )


def fail_shard(connection: Connection, lease: ShardLease, *, error: str) -> bool:
    _mark_released(connection, lease)
    return move_shard(
        connection,
        lease.job_id,
        lease.number,
        to=ShardStatus.FAILED,
        token=lease.token,
        values={"last_error": error},
    )


def _mark_released(connection: Connection, lease: ShardLease) -> None:
    connection.execute(
        update(slices)
        .where(slices.c.job_id == lease.job_id, slices.c.shard_number == lease.number)
        .where(slices.c.token == lease.token, slices.c.status == "open")
        .values(status="released")
    )
