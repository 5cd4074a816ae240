"""Rows of ended jobs that are removed after a time, a bounded number at once.

A job is taken first: no failed image of it is tried again from then on, which would need what goes.
Taking it twice, or from another process, changes nothing.
"""

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    exists,
    func,
    select,
    text,
    update,
)

from storage.conditions import EXPORT_IS_OPEN, JOB_IS_OPEN
from storage.jobs import Job, find_job
from storage.slices import LooseSlice
from storage.tables import deliveries, exports, jobs, slices

TAKEN = "retention"  # as the lease's owner
# A webhook that does not answer is given up after some days at most.
_HAS_TO_TELL = exists().where(
    deliveries.c.job_id == jobs.c.id, deliveries.c.next_attempt_at.is_not(None)
)
_IS_EXPORTED = exists().where(exports.c.job_id == jobs.c.id, EXPORT_IS_OPEN)
_IS_OVER = and_(~JOB_IS_OPEN, ~_HAS_TO_TELL, ~_IS_EXPORTED)


def job_to_clean(
    connection: Connection, *, days: float, skipping: frozenset[str] = frozenset()
) -> Job | None:
    """One that ended longest ago, at least `days`, and still has its events."""
    return _longest_ended(connection, _ended(days) & jobs.c.cleaned_at.is_(None), skipping)


def job_to_delete(
    connection: Connection, *, days: float, skipping: frozenset[str] = frozenset()
) -> Job | None:
    return _longest_ended(connection, _ended(days), skipping)


def _ended(days: float) -> ColumnElement[bool]:
    long_ago = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, days * 86400.0)
    return and_(jobs.c.finished_at.is_not(None), jobs.c.finished_at <= long_ago, _IS_OVER)


def _longest_ended(
    connection: Connection, condition: ColumnElement[bool], skipping: frozenset[str]
) -> Job | None:
    query = (
        select(jobs.c.id)
        .where(condition, jobs.c.id.not_in(skipping))
        .order_by(jobs.c.finished_at)
        .limit(1)
    )
    job_id = connection.execute(query).scalar_one_or_none()
    return find_job(connection, job_id) if job_id else None


def take_job(connection: Connection, job: Job) -> bool:
    """False where its failed images are being tried again, or have been since it was chosen."""
    is_same = and_(jobs.c.id == job.id, jobs.c.finished_at == job.finished_at)
    statement = update(jobs).where(is_same, _IS_OVER).values(lease_owner=TAKEN)
    return connection.execute(statement).rowcount > 0


def forget_events(connection: Connection, job_id: str, *, limit: int) -> int:
    return _forget(connection, "events", job_id, limit)


def forget_deliveries(connection: Connection, job_id: str, *, limit: int) -> int:
    return _forget(connection, "deliveries", job_id, limit)


def forget_shards(connection: Connection, job_id: str, *, limit: int) -> int:
    """Only once their slices are gone, which would go with them, however many."""
    return _forget(connection, "shards", job_id, limit)


def _forget(connection: Connection, table: str, job_id: str, limit: int) -> int:
    """By their places in the file: each row is looked for once, however many the job has."""
    some = f"SELECT ctid FROM {table} WHERE job_id = :job_id LIMIT :limit"  # noqa: S608
    statement = text(f"DELETE FROM {table} WHERE ctid = ANY (ARRAY({some}))")  # noqa: S608
    return connection.execute(statement, {"job_id": job_id, "limit": limit}).rowcount


def some_slices(connection: Connection, job_id: str, *, limit: int) -> list[LooseSlice]:
    """Of every status: whatever parts of the job may lie in a store."""
    columns = tuple(slices.c[name] for name in LooseSlice.__dataclass_fields__)
    order = (slices.c.shard_number, slices.c.start, slices.c.token)
    query = select(*columns).where(slices.c.job_id == job_id).order_by(*order).limit(limit)
    return [LooseSlice(*row) for row in connection.execute(query)]


def mark_cleaned(connection: Connection, job_id: str) -> None:
    statement = update(jobs).where(jobs.c.id == job_id, jobs.c.lease_owner == TAKEN)
    connection.execute(statement.values(cleaned_at=func.now(), lease_owner=None))


def forget_job(connection: Connection, job_id: str) -> None:
    connection.execute(delete(jobs).where(jobs.c.id == job_id, jobs.c.lease_owner == TAKEN))
