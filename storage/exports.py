"""Exports: made once per result and options, under a lease, again from the start where it is lost.

`result` names what is exported: `manifest N`, for a job that still runs the time at which its
result last grew and the number of its slices, or the job's sample. The same options on the same
result are the same export, unless that failed. Evaluations and previews are made in the same way,
and differ in their `kind`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    false,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from domain.ids import new_id
from domain.lifecycle import ExportStatus, ResultUse, export_sources
from storage import outbox
from storage.conditions import EXPORT_IS_OPEN
from storage.events import record_event
from storage.tables import exports

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


def move_export(
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
    move_export(connection, waits, to=ExportStatus.CANCELED, finished_at=func.now())


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
