"""Exports, evaluations and previews while they are made: under a lease, by one worker at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)

from domain.errors import LeaseLost
from domain.lifecycle import ExportStatus, ResultUse
from storage import outbox
from storage.conditions import EXPORT_IS_OPEN, JOB_IS_OPEN, SHARD_IS_OPEN
from storage.exports import Export, move_export
from storage.tables import exports, jobs, lease_tokens, shards


@dataclass(frozen=True, slots=True)
class ExportLease:
    export_id: str
    token: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a run is: images of its present pass over the result, of all there are."""

    pass_number: int = 0
    images_read: int = 0
    images_total: int | None = None


def seconds_from_now(seconds: float) -> ColumnElement[datetime]:
    expiry: ColumnElement[datetime] = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    return expiry


_LEASE_FREE = or_(exports.c.lease_expires_at.is_(None), exports.c.lease_expires_at < func.now())
_FIRST_OPEN_SHARD = (
    select(shards.c.number)
    .where(shards.c.job_id == jobs.c.id, SHARD_IS_OPEN)
    .order_by(shards.c.number)
    .limit(1)
    .scalar_subquery()
)
_SAMPLE_IS_LABELLED = exists().where(
    jobs.c.id == exports.c.job_id,
    or_(
        ~JOB_IS_OPEN,
        func.coalesce(_FIRST_OPEN_SHARD, jobs.c.sample_shards) >= jobs.c.sample_shards,
    ),
)
_MAY_BEGIN = and_(
    EXPORT_IS_OPEN, _LEASE_FREE, or_(exports.c.kind != ResultUse.PREVIEW, _SAMPLE_IS_LABELLED)
)
_other = exports.alias("other")
_RUNNING_OF_SAME_KEY = (
    select(func.count())
    .where(
        _other.c.status == literal_column(f"'{ExportStatus.RUNNING}'"),  # storage.conditions
        _other.c.lease_expires_at >= func.now(),
        _other.c.owner_key_id == exports.c.owner_key_id,
    )
    .scalar_subquery()
)


def claim_export(
    connection: Connection, *, owner: str, lease_seconds: float
) -> tuple[Export, ExportLease] | None:
    """The next one: of the key with fewest running, the oldest. The attempt is counted before it
    begins. None when nothing waits."""
    chosen = (
        select(exports.c.id)
        .where(_MAY_BEGIN)
        .order_by(_RUNNING_OF_SAME_KEY, exports.c.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    export_id = connection.execute(chosen).scalar_one_or_none()
    if export_id is None:
        return None
    export = move_export(
        connection,
        and_(exports.c.id == export_id, _LEASE_FREE),
        to=ExportStatus.RUNNING,
        running_at=func.now(),
        lease_token=lease_tokens.next_value(),
        lease_owner=owner,
        lease_expires_at=seconds_from_now(lease_seconds),
        lease_attempts=exports.c.lease_attempts + 1,
        pass_number=0,
        images_read=0,
    )
    assert export is not None  # its row is locked
    held = select(exports.c.lease_token, exports.c.lease_attempts).where(exports.c.id == export_id)
    return export, ExportLease(export.id, *connection.execute(held).one())


def _held_by(lease: ExportLease) -> ColumnElement[bool]:
    return and_(
        exports.c.id == lease.export_id,
        exports.c.lease_token == lease.token,
        exports.c.status == ExportStatus.RUNNING,
    )


def renew_export(
    connection: Connection, lease: ExportLease, *, reading: Reading, lease_seconds: float
) -> bool:
    """Keep the lease and say how far it is; whether the export is still wanted. Raises
    `LeaseLost`."""
    statement = (
        update(exports)
        .where(_held_by(lease))
        .values(
            lease_expires_at=seconds_from_now(lease_seconds),
            pass_number=reading.pass_number,
            images_read=reading.images_read,
            images_total=reading.images_total,
        )
        .returning(exports.c.cancel_requested_at)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise LeaseLost(lease.export_id)
    return row.cancel_requested_at is None


def is_wanted(connection: Connection, lease: ExportLease) -> bool:
    """Of whoever holds the lease; it stays so until the transaction ends."""
    wanted = exports.c.cancel_requested_at.is_(None)
    query = select(exports.c.id).where(_held_by(lease), wanted).with_for_update()
    return connection.execute(query).first() is not None


def give_back(connection: Connection, lease: ExportLease) -> None:
    """Its worker stops in an orderly way: the attempt does not count."""
    move_export(
        connection,
        _held_by(lease),
        to=ExportStatus.QUEUED,
        lease_expires_at=None,
        lease_owner=None,
        lease_attempts=exports.c.lease_attempts - 1,
    )
    outbox.ring(connection, outbox.Tasks.RUN_EXPORTS)


def abandon_export(connection: Connection, lease: ExportLease) -> None:
    """The holder is about to die: the next one need not wait for the lease to run out."""
    connection.execute(update(exports).where(_held_by(lease)).values(lease_expires_at=func.now()))
    outbox.ring(connection, outbox.Tasks.RUN_EXPORTS)


def note_fault(connection: Connection, lease: ExportLease, error: Mapping[str, str]) -> None:
    """Why this attempt did not come to its end; there may be others."""
    connection.execute(update(exports).where(_held_by(lease)).values(error=dict(error)))


def end_export(
    connection: Connection,
    lease: ExportLease,
    *,
    to: ExportStatus,
    reading: Reading | None = None,
    **values: Any,
) -> Export:
    """Give the export its last status, with its `files` and `report`, or its `error`. Raises
    `LeaseLost`."""
    read = {} if reading is None else {n: getattr(reading, n) for n in Reading.__slots__}
    ended = move_export(
        connection,
        _held_by(lease),
        to=to,
        finished_at=func.now(),
        lease_expires_at=None,
        lease_owner=None,
        **{"error": null(), **read, **values},
    )
    if ended is None:
        raise LeaseLost(lease.export_id)
    return ended


def exports_wait(connection: Connection) -> bool:
    """Whether there is one that nobody makes: for the sweeper, and for whoever has made one."""
    query = select(exports.c.id).where(_MAY_BEGIN).limit(1)
    return connection.execute(query).first() is not None


def preview_waits(connection: Connection, job_id: str) -> bool:
    """Whether the job's sample is labelled, and its preview not begun."""
    is_preview = and_(exports.c.job_id == job_id, exports.c.kind == ResultUse.PREVIEW)
    query = select(exports.c.id).where(is_preview, _MAY_BEGIN).limit(1)
    return connection.execute(query).first() is not None
