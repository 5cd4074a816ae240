"""Shards: claimed by the statement that keeps the queue fair, held by lease and token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Row, and_, func, literal, null, select, text, update
from sqlalchemy.dialects.postgresql import insert

from domain.errors import LeaseLost
from domain.lifecycle import ShardStatus, Wish
from domain.planning import Span
from domain.stages import Stage
from storage.events import record_event
from storage.tables import jobs, shards, slices
from storage.transitions import move_shard


@dataclass(frozen=True, slots=True)
class NewShard:
    """`list_token` is of the lease under which its list was written."""

    number: int
    first_image_index: int
    image_count: int
    list_token: int = 0


@dataclass(frozen=True, slots=True)
class Retry:
    """Failed images with one of `codes` (none: with any) are run again, and no others; those
    before `position` have been."""

    codes: frozenset[str]
    position: int

    def wants(self, code: str | None, *, position: int) -> bool:
        """`code` is that of the image's failure, None for a success."""
        return code is not None and position >= self.position and code in (self.codes or (code,))


@dataclass(frozen=True, slots=True)
class ShardLease:
    """The right to run a shard. `token` fences: a later lease makes an earlier one void.

    `lost` are the slices that earlier runners had in flight when they died.
    """

    job_id: str
    number: int
    model: str
    token: int
    attempts: int
    first_image_index: int
    image_count: int
    list_token: int
    committed: int
    lost: tuple[Span, ...]
    retry: Retry | None


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
            "list_token": shard.list_token,
        }
        for shard in new
    ]
    connection.execute(insert(shards), rows)
    record_event(connection, job_id, kind="shards.planned", data={"count": len(rows)})


def shard_of_image(connection: Connection, job_id: str, image_index: int) -> NewShard | None:
    """As it was planned; None for an image that no shard holds, or no longer."""
    query = (
        select(*(shards.c[name] for name in NewShard.__dataclass_fields__))
        .where(shards.c.job_id == job_id, shards.c.first_image_index <= image_index)
        .order_by(shards.c.number.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None or image_index >= row.first_image_index + row.image_count:
        return None
    return NewShard(*row)


_CLAIM = text("""
    WITH busy AS (
        SELECT s.job_id, j.owner_key_id, count(*) AS running
          FROM shards s JOIN jobs j ON j.id = s.job_id
         WHERE s.status = 'running' AND s.lease_expires_at >= now()
         GROUP BY s.job_id, j.owner_key_id
    ), owner AS (
        SELECT owner_key_id, random() AS lot,
               (SELECT sum(running) FROM busy WHERE busy.owner_key_id = jobs.owner_key_id)
                   AS running
          FROM jobs
         WHERE status IN ('queued', 'planning', 'running')
         GROUP BY owner_key_id
    ), candidate AS (
        SELECT j.id
          FROM jobs j JOIN owner USING (owner_key_id)
         WHERE j.status IN ('queued', 'planning', 'running')
           AND j.cancel_requested_at IS NULL AND j.error IS NULL AND j.paused_at IS NULL
           AND j.model = ANY(:models)
         ORDER BY j.priority DESC, coalesce(owner.running, 0), owner.lot,
                  coalesce((SELECT running FROM busy WHERE job_id = j.id), 0), random()
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
    RETURNING s.job_id, s.number, (SELECT model FROM jobs WHERE id = s.job_id) AS model,
              s.lease_token AS token, s.attempts, s.first_image_index, s.image_count, s.list_token,
              s.committed, s.retry_codes
""")


def claim_shard(
    connection: Connection, *, owner: str, models: Sequence[str], lease_seconds: float
) -> ShardLease | None:
    """Lease the next shard: by priority, then to the key and the job that have least running.

    Among equals a lot decides: a single worker, to which all are equal, then serves every key and
    every job too, and neither a small job waits behind the queue of a large one, nor a large one
    for a stream of small ones. The attempt is counted here, before the run, and what a dead
    runner had in flight is marked as lost.
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
    found: dict[str, Any] = row._asdict()
    retry = _retry(found.pop("retry_codes"))
    return ShardLease(**found, lost=_lost_spans(connection, row), retry=retry)


def _retry(retry_codes: dict[str, Any] | None) -> Retry | None:
    if retry_codes is None:
        return None
    return Retry(frozenset(retry_codes["codes"]), retry_codes["position"])


def _lost_spans(connection: Connection, shard: Row[Any]) -> tuple[Span, ...]:
    """A slice that was tried again for some of its images has those as its own while it is open,
    so that its start does not say which."""
    start = slices.c.first_image_index - shard.first_image_index
    query = select(start, slices.c.count).where(
        slices.c.job_id == shard.job_id,
        slices.c.shard_number == shard.number,
        slices.c.status == "lost",
    )
    return tuple(Span(*found) for found in connection.execute(query))


_MODELS_WITH_WORK = text("""
    SELECT DISTINCT j.model FROM jobs j
     WHERE j.status IN ('queued', 'planning', 'running')
       AND j.cancel_requested_at IS NULL AND j.error IS NULL AND j.paused_at IS NULL
       AND EXISTS (
        SELECT 1 FROM shards s
         WHERE s.job_id = j.id AND s.status IN ('pending', 'running') AND s.available_at <= now()
           AND (s.status = 'pending' OR s.lease_expires_at < now()))
""")


def models_with_work(connection: Connection) -> list[str]:
    """Whose workers have something to claim."""
    return list(connection.execute(_MODELS_WITH_WORK).scalars())


def held(lease: ShardLease) -> Any:
    return and_(
        shards.c.job_id == lease.job_id,
        shards.c.number == lease.number,
        shards.c.lease_token == lease.token,
        shards.c.status == ShardStatus.RUNNING,
    )


def renew_lease(connection: Connection, lease: ShardLease, *, lease_seconds: float) -> Wish:
    """Keep the lease, and hear what is wanted of the job; raises `LeaseLost`."""
    expiry = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, lease_seconds)
    statement = update(shards).where(held(lease)).values(lease_expires_at=expiry)
    if connection.execute(statement).rowcount == 0:
        raise LeaseLost(f"{lease.job_id} shard {lease.number}")
    return wish_of(connection, lease.job_id)


def wish_of(connection: Connection, job_id: str) -> Wish:
    query = select(jobs.c.cancel_requested_at, jobs.c.error, jobs.c.paused_at)
    row = connection.execute(query.where(jobs.c.id == job_id)).one()
    if row.cancel_requested_at is not None or row.error is not None:
        return Wish.UNWANTED
    return Wish.WANTED if row.paused_at is None else Wish.PAUSED


def abandon_lease(connection: Connection, lease: ShardLease) -> None:
    """The holder is about to die: whoever claims next need not wait for the lease to run out."""
    ended = update(shards).where(held(lease)).values(lease_expires_at=func.now())
    if connection.execute(ended).rowcount:
        record_event(connection, lease.job_id, kind="shard.stalled", shard_number=lease.number)


def open_slice(
    connection: Connection, lease: ShardLease, new: OpenSlice, *, running: Span | None = None
) -> None:
    """Record what is about to run and where its parts will lie; raises `LeaseLost`.

    `running` are the images that do, where they are not all of the slice; they may be recorded
    again as the run goes on.
    """
    running = running or new.span
    row = {
        "job_id": lease.job_id,
        "shard_number": lease.number,
        "start": new.span.start,
        "token": lease.token,
        "count": running.count,
        "status": "open",
        "annotations_key": new.annotations_key,
        "images_key": new.images_key,
        "first_image_index": lease.first_image_index + running.start,
    }
    source = select(*(literal(v, slices.c[k].type) for k, v in row.items())).where(
        select(shards.c.number).where(held(lease)).exists()
    )
    inserted = insert(slices).from_select(list(row), source)
    opened = inserted.on_conflict_do_update(
        constraint=slices.primary_key,
        set_={name: inserted.excluded[name] for name in ("count", "first_image_index")},
    ).returning(slices.c.start)
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
        .where(held(lease), shards.c.committed == span.start)
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


def stage_seconds(stage: Stage) -> Column[Any]:
    return shards.c[f"{stage}_seconds"]


def add_stage_seconds(
    connection: Connection, lease: ShardLease, seconds: Mapping[Stage, float]
) -> None:
    """What a run's stages have taken. Nothing where the lease is another's."""
    added = {stage_seconds(stage): stage_seconds(stage) + more for stage, more in seconds.items()}
    if added:
        connection.execute(update(shards).where(held(lease)).values(added))


def complete_shard(connection: Connection, lease: ShardLease, *, error: str | None = None) -> bool:
    """All that was to run has run. A retry may end with an `error` too: what stands, stands.

    Where the failures of a canceled job were tried again, images are left that never ran.
    """
    is_whole = lease.retry is None or lease.committed == lease.image_count
    values = {"retry_codes": null()} | ({"last_error": error} if error else {})
    to = ShardStatus.SUCCEEDED if is_whole else ShardStatus.CANCELED
    return _end_run(connection, lease, to=to, values=values)


def cancel_shard(connection: Connection, lease: ShardLease) -> bool:
    """End a running shard of a job that is no longer wanted; committed slices stay."""
    values = {"retry_codes": null()}
    return _end_run(connection, lease, to=ShardStatus.CANCELED, values=values)


def release_shard(connection: Connection, lease: ShardLease) -> bool:
    """Give the shard back unharmed (a worker that was asked to stop): no attempt is counted."""
    values = {"attempts": func.greatest(shards.c.attempts - 1, 0), "lease_expires_at": None}
    return _end_run(connection, lease, to=ShardStatus.PENDING, values=values)


def attempts_of(connection: Connection, lease: ShardLease) -> int | None:
    """Since the last progress, which may be of this run. None: the lease is another's."""
    query = select(shards.c.attempts).where(held(lease)).with_for_update()
    return connection.execute(query).scalar_one_or_none()


def retry_shard_later(
    connection: Connection, lease: ShardLease, *, error: str, delay_seconds: float
) -> bool:
    """An infrastructure fault ended the run: let it be run again, but not at once."""
    later = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, delay_seconds)
    values = {"available_at": later, "lease_expires_at": None, "last_error": error}
    return _end_run(connection, lease, to=ShardStatus.PENDING, values=values)


def fail_shard(connection: Connection, lease: ShardLease, *, error: str) -> bool:
    return _end_run(connection, lease, to=ShardStatus.FAILED, values={"last_error": error})


def _end_run(
    connection: Connection, lease: ShardLease, *, to: ShardStatus, values: dict[str, Any]
) -> bool:
    """False when the lease is another's. The shard is locked before its slices, as by a claim."""
    moved = move_shard(
        connection, lease.job_id, lease.number, to=to, token=lease.token, values=values
    )
    if moved:
        _mark_released(connection, lease)
    return moved


def _mark_released(connection: Connection, lease: ShardLease) -> None:
    connection.execute(
        update(slices)
        .where(slices.c.job_id == lease.job_id, slices.c.shard_number == lease.number)
        .where(slices.c.token == lease.token, slices.c.status == "open")
        .values(status="released")
    )
