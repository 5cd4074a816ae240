"""Exports: made once per result and options, under a lease, again from the start where it is lost.

`result` names what is exported: `manifest N`, for a job that still runs the time at which its
result last grew and the number of its slices, or the job's sample. The same options on the same
result are the same export, unless that failed. Evaluations and previews are made in the same way,
and differ in their `kind`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    exists,
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from domain.errors import LeaseLost
from domain.ids import new_id
from domain.lifecycle import ExportStatus, ResultUse, export_sources
from storage import outbox
from storage.conditions import EXPORT_IS_OPEN, JOB_IS_OPEN, SHARD_IS_OPEN
from storage.events import record_event
from storage.tables import exports, jobs, lease_tokens, shards

_MANIFEST = "manifest "
SAMPLE = "sample"


ID_PREFIXES = {ResultUse.EXPORT: "exp", ResultUse.EVALUATION: "evl", ResultUse.PREVIEW: "prv"}


def whole_result(manifest_number: int) -> str:
    return f"{_MANIFEST}{manifest_number}"


def partial_result(grew_at: datetime, *, slice_count: int) -> str:
    """Both, because slices have the times at which their transactions began: one that is committed
    later may have the earlier time."""
    return f"{grew_at.isoformat()}, {slice_count} slices"


def manifest_of(result: str) -> int | None:
    """The manifest's number; None for a partial result, and for a sample."""
    return int(result.removeprefix(_MANIFEST)) if result.startswith(_MANIFEST) else None


@dataclass(frozen=True, slots=True)
class NewExport:
    job_id: str
    owner_key_id: str
    options: dict[str, Any]
    options_sha256: str
    result: str
    kind: ResultUse = ResultUse.EXPORT
    idempotency_key: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """`files` (name, key, sha256, bytes) and `report` are there once it has succeeded; keys are
    relative to the job's results root. `running_at` is when the present run, or the last one,
    began: what has been read counts from there."""

    id: str
    job_id: str
    kind: ResultUse
    status: ExportStatus
    options: dict[str, Any]
    options_sha256: str
    result: str
    traceparent: str | None
    cancel_requested_at: datetime | None
    lease_expires_at: datetime | None
    pass_number: int
    images_read: int
    images_total: int | None
    files: list[dict[str, Any]] | None
    report: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    running_at: datetime | None
    finished_at: datetime | None
    deleted_at: datetime | None


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


COLUMNS = tuple(exports.c[name] for name in Export.__dataclass_fields__)
IS_THERE = exports.c.deleted_at.is_(None)


def export_of(row: Row[Any]) -> Export:
    values = row._asdict()
    values = {name: values[name] for name in Export.__dataclass_fields__}
    kinds = {"status": ExportStatus(values["status"]), "kind": ResultUse(values["kind"])}
    return Export(**{**values, **kinds})


def create_export(connection: Connection, new: NewExport) -> tuple[Export, bool]:
    """Insert the export and its doorbell, or return the one that is there: with the idempotency
    key, else with the same options. The second value says whether the export is new; comparing
    `options_sha256` is the caller's."""
    values = {
        "id": new_id(ID_PREFIXES[new.kind]),
        "status": ExportStatus.QUEUED,
        **{name: getattr(new, name) for name in NewExport.__dataclass_fields__},
    }
    statement = insert(exports).values(values).on_conflict_do_nothing().returning(*COLUMNS)
    while (row := connection.execute(statement).one_or_none()) is None:
        if (same := _same(connection, new)) is not None:
            return same, False
    export = export_of(row)
    _record(connection, export)
    outbox.ring(connection, outbox.Tasks.RUN_EXPORTS)
    return export, True


def _same(connection: Connection, new: NewExport) -> Export | None:
    """What stood in the way; None where that has ended or was deleted since."""
    same_key = exports.c.idempotency_key == literal(new.idempotency_key, Text)  # of null: null
    same_options = and_(
        exports.c.options_sha256 == new.options_sha256,
        exports.c.result == new.result,
        exports.c.status.not_in((ExportStatus.FAILED, ExportStatus.CANCELED)),
    )
    query = (
        select(*COLUMNS)
        .where(exports.c.job_id == new.job_id, IS_THERE, or_(same_key, same_options))
        .order_by(func.coalesce(same_key, false()).desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return export_of(row) if row else None


def _record(connection: Connection, export: Export, what: str | None = None, **data: Any) -> None:
    """With the webhook call that this may want."""
    about = {f"{export.kind}_id": export.id, **data}
    if export.kind is ResultUse.EXPORT:
        about["format"] = export.options["format"]
    kind = f"{export.kind}.{what or export.status}"
    record_event(connection, export.job_id, kind=kind, data=about)


def find_export(
    connection: Connection, job_id: str, export_id: str, *, kind: ResultUse = ResultUse.EXPORT
) -> Export | None:
    query = select(*COLUMNS).where(
        exports.c.id == export_id, exports.c.job_id == job_id, exports.c.kind == kind, IS_THERE
    )
    row = connection.execute(query).one_or_none()
    return export_of(row) if row else None


def list_exports(
    connection: Connection,
    job_id: str,
    *,
    before: str | None,
    limit: int,
    kind: ResultUse = ResultUse.EXPORT,
) -> list[Export]:
    """Newest first; `before` is the id of the last export of the page before."""
    query = select(*COLUMNS).where(exports.c.job_id == job_id, exports.c.kind == kind, IS_THERE)
    if before is not None:
        query = query.where(exports.c.id < before)
    rows = connection.execute(query.order_by(exports.c.id.desc()).limit(limit))
    return [export_of(row) for row in rows]


def _move(
    connection: Connection,
    condition: ColumnElement[bool],
    *,
    to: ExportStatus,
    **values: Any,
) -> Export | None:
    """The one guarded UPDATE behind every change of status, with its event; None when the table or
    `condition` does not allow it."""
    statement = (
        update(exports)
        .where(exports.c.status.in_(export_sources(to)), condition)
        .values(status=to, **values)
        .returning(*COLUMNS)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    export = export_of(row)
    _record(connection, export)
    return export


def request_cancel(connection: Connection, export_id: str) -> None:
    """One that waits ends now, one that runs within a batch; one that has ended stays as it is."""
    wished = (
        update(exports)
        .where(exports.c.id == export_id, EXPORT_IS_OPEN, exports.c.cancel_requested_at.is_(None))
        .values(cancel_requested_at=func.now())
    )
    connection.execute(wished)
    waits = and_(exports.c.id == export_id, exports.c.status == ExportStatus.QUEUED)
    _move(connection, waits, to=ExportStatus.CANCELED, finished_at=func.now())


def delete_export(connection: Connection, export_id: str, *, why: str) -> None:
    """Nobody sees it any more; its files go when nobody can write them any more."""
    request_cancel(connection, export_id)
    gone = (
        update(exports)
        .where(exports.c.id == export_id, IS_THERE)
        .values(deleted_at=func.now())
        .returning(*COLUMNS)
    )
    row = connection.execute(gone).one_or_none()
    if row is not None:
        _record(connection, export_of(row), "deleted", why=why)


# Runs


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
    export = _move(
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
    _move(
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
    ended = _move(
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
