"""Exports that have ended: for how long they are kept, and which may have left files behind."""

from collections.abc import Sequence

from sqlalchemy import Connection, func, literal_column, or_, select, update

from domain.lifecycle import ResultUse
from storage.export_runs import seconds_from_now
from storage.exports import COLUMNS, IS_THERE, Export, delete_export, export_of
from storage.tables import exports


def retire_exports(connection: Connection, *, days: float, limit: int = 100) -> int:
    """Delete those that ended at least `days` ago; returns how many. Evaluations and previews stay
    with their job."""
    is_export = exports.c.kind == literal_column(f"'{ResultUse.EXPORT}'")  # storage.conditions
    query = (
        select(exports.c.id)
        .where(exports.c.finished_at <= seconds_from_now(-days * 86400.0), is_export, IS_THERE)
        .order_by(exports.c.finished_at)
        .limit(limit)
    )
    found = connection.execute(query).scalars().all()
    for export_id in found:
        delete_export(connection, export_id, why="retention")
    return len(found)


def untidy_exports(
    connection: Connection, *, rest_seconds: float, skipping: frozenset[str], limit: int = 20
) -> list[Export]:
    """Those that ended at least `rest_seconds` ago, when nobody writes any more, and may have left
    files of broken runs, or are deleted; but for those of some jobs."""
    query = (
        select(*COLUMNS)
        .where(
            exports.c.finished_at <= seconds_from_now(-rest_seconds),
            or_(exports.c.tidied_at.is_(None), exports.c.deleted_at.is_not(None)),
            exports.c.job_id.not_in(skipping),
        )
        .order_by(exports.c.finished_at)
        .limit(limit)
    )
    return [export_of(row) for row in connection.execute(query)]


def mark_tidied(connection: Connection, export: Export) -> None:
    """A deleted one is forgotten, unless it was deleted since it was looked at."""
    this = exports.c.id == export.id
    if export.deleted_at is None:
        connection.execute(update(exports).where(this).values(tidied_at=func.now()))
    else:
        connection.execute(exports.delete().where(this))


def export_ids_of(connection: Connection, job_id: str) -> Sequence[str]:
    """Also of deleted ones."""
    query = select(exports.c.id).where(exports.c.job_id == job_id)
    return connection.execute(query).scalars().all()
