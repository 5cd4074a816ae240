"""Jobs: created once, planned under a lease, finished under a lease."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    exists,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from domain.documents import JobPromptDocument
from domain.errors import LeaseLost
from domain.ids import new_id
from domain.lifecycle import JobStatus, ShardStatus
from domain.prompts import ConceptPrompt
from storage import outbox
from storage.conditions import JOB_IS_OPEN, SHARD_IS_OPEN
from storage.events import record_event
from storage.tables import jobs, lease_tokens, shards
from storage.transitions import cancel_pending_shards, move_job


@dataclass(frozen=True, slots=True)
class NewJob:
    owner_key_id: str
    model: str
    floor: float
    prompts: list[dict[str, Any]]
    source: dict[str, Any]
    request_sha256: str
    output: str | None = None
    webhook_url: str | None = None
    accept_expiring_links: bool = False
    name: str | None = None
    priority: int = 0
    hold: bool = False
    idempotency_key: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    owner_key_id: str
    name: str | None
    status: JobStatus
    priority: int
    model: str
    floor: float
    prompts: list[dict[str, Any]]
    source: dict[str, Any]
    output: str | None
    webhook_url: str | None
    accept_expiring_links: bool
    request_sha256: str
    cancel_requested_at: datetime | None
    paused_at: datetime | None
    held_at: datetime | None
    sample_images: int | None
    sample_shards: int | None
    error: dict[str, Any] | None
    plan_cursor: dict[str, Any] | None
    manifest_number: int
    totals: dict[str, Any] | None
    traceparent: str | None
    created_at: datetime
    planning_at: datetime | None
    running_at: datetime | None
    finished_at: datetime | None
    cleaned_at: datetime | None

    def parsed_prompts(self) -> tuple[ConceptPrompt, ...]:
        return tuple(JobPromptDocument.model_validate(p).to_prompt() for p in self.prompts)


_COLUMNS = tuple(jobs.c[name] for name in Job.__dataclass_fields__)


def _job(row: Row[Any]) -> Job:
    values = row._asdict()
    return Job(**{**values, "status": JobStatus(values["status"])})


def create_job(connection: Connection, new: NewJob) -> tuple[Job, bool]:
    """Insert the job and its doorbell; with a known idempotency key return the job that is there.

    The second value says whether the job is new. Comparing `request_sha256` is the caller's.
    """
    values = {
        "id": new_id("job"),
        "status": JobStatus.QUEUED,
        "held_at": func.now() if new.hold else None,
        **{name: getattr(new, name) for name in NewJob.__dataclass_fields__ if name != "hold"},
    }
    statement = insert(jobs).values(values).on_conflict_do_nothing().returning(*_COLUMNS)
    row = connection.execute(statement).one_or_none()
    if row is None:
        return _same_idempotency_key(connection, new), False
    job = _job(row)
    record_event(connection, job.id, kind="job.queued")
    outbox.ring(connection, outbox.Tasks.PLAN_JOB, job_id=job.id)
    return job, True


def _same_idempotency_key(connection: Connection, new: NewJob) -> Job:
    query = select(*_COLUMNS).where(
        jobs.c.owner_key_id == new.owner_key_id, jobs.c.idempotency_key == new.idempotency_key
    )
    return _job(connection.execute(query).one())


def find_job(connection: Connection, job_id: str, *, owner_key_id: str | None = None) -> Job | None:
    """The job, if `owner_key_id` (None: anybody) may see it."""
    query = select(*_COLUMNS).where(jobs.c.id == job_id)
    if owner_key_id is not None:
        query = query.where(jobs.c.owner_key_id == owner_key_id)
    row = connection.execute(query).one_or_none()
    return _job(row) if row else None


def find_jobs(connection: Connection, job_ids: Collection[str]) -> list[Job]:
    rows = connection.execute(select(*_COLUMNS).where(jobs.c.id.in_(job_ids)))
    return [_job(row) for row in rows]


def list_jobs(
    connection: Connection,
    owner_key_id: str,
    *,
    before: str | None,
    limit: int,
    status: JobStatus | None = None,
) -> list[Job]:
    """Newest first; `before` is the id of the last job of the page before."""
    query = select(*_COLUMNS).where(jobs.c.owner_key_id == owner_key_id)
    if before is not None:
        query = query.where(jobs.c.id < before)
    if status is not None:
        query = query.where(jobs.c.status == status)
    rows = connection.execute(query.order_by(jobs.c.id.desc()).limit(limit))
    return [_job(row) for row in rows]


def request_cancel(connection: Connection, job_id: str) -> None:
    """Wish the job's end. Pending shards end now, running ones within one batch."""
    wished = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.cancel_requested_at.is_(None))
        .where(JOB_IS_OPEN)
        .values(cancel_requested_at=func.now(), lease_attempts=0)
    )
    if connection.execute(wished).rowcount:
        record_event(connection, job_id, kind="job.cancel_requested")
        cancel_pending_shards(connection, job_id)
        outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=job_id)


def pause_job(connection: Connection, job_id: str) -> None:
    """Wish that no shard begins; running ones are given back within one batch."""
    wished = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.paused_at.is_(None), JOB_IS_OPEN)
        .values(paused_at=func.now())
    )
    if connection.execute(wished).rowcount:
        record_event(connection, job_id, kind="job.paused")


def resume_job(connection: Connection, job_id: str) -> None:
    wished = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.paused_at.is_not(None), JOB_IS_OPEN)
        .values(paused_at=None, wanted_at=func.now())
        .returning(jobs.c.model)
    )
    model = connection.execute(wished).scalar_one_or_none()
    if model is not None:
        record_event(connection, job_id, kind="job.resumed")
        outbox.ring(connection, outbox.Tasks.RUN_SHARDS, model=model)


def set_priority(connection: Connection, job_id: str, priority: int) -> None:
    """Of an open job; runs that have begun go on."""
    changed = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.priority != priority, JOB_IS_OPEN)
        .values(priority=priority)
    )
    if connection.execute(changed).rowcount:
        record_event(connection, job_id, kind="job.prioritized", data={"priority": priority})


def doom_job(connection: Connection, job_id: str, error: dict[str, Any]) -> None:
    """The job as a whole cannot be done: its pending shards end now, then it fails."""
    doomed = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.error.is_(None), JOB_IS_OPEN)
        .values(error=error, lease_attempts=0)
    )
    if connection.execute(doomed).rowcount:
        record_event(connection, job_id, kind="job.error", data=error)
        cancel_pending_shards(connection, job_id)
        outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=job_id)


@dataclass(frozen=True, slots=True)
class JobLease:
    job_id: str
    model: str
    token: int
    attempts: int


def _free(lease_seconds: float) -> dict[str, Any]:
    return {
        "lease_token": lease_tokens.next_value(),
        "lease_expires_at": func.now() + func.make_interval(0, 0, 0, 0, 0, 0, lease_seconds),
    }


_LEASE_FREE = or_(jobs.c.lease_expires_at.is_(None), jobs.c.lease_expires_at < func.now())
IS_WANTED = and_(jobs.c.cancel_requested_at.is_(None), jobs.c.error.is_(None))
_SAMPLE_IS_DUE = and_(jobs.c.sample_images.is_not(None), jobs.c.sample_shards.is_(None))
_NEEDS_PLANNING = and_(
    JOB_IS_OPEN,
    jobs.c.status.in_((JobStatus.QUEUED, JobStatus.PLANNING)),
    IS_WANTED,
    or_(jobs.c.held_at.is_(None), _SAMPLE_IS_DUE),
)
_HAS_OPEN_SHARDS = exists().where(shards.c.job_id == jobs.c.id, SHARD_IS_OPEN)
_NEEDS_FINISHING = and_(
    JOB_IS_OPEN,
    or_(jobs.c.status == JobStatus.RUNNING, ~IS_WANTED),
    ~_HAS_OPEN_SHARDS,
)


def claim_job(
    connection: Connection, job_id: str, *, finishing: bool, owner: str, lease_seconds: float
) -> JobLease | None:
    """Take the job's lease for planning or finishing; None if it needs neither or is held."""
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id, _LEASE_FREE)
        .where(_NEEDS_FINISHING if finishing else _NEEDS_PLANNING)
        .values(
            lease_owner=owner,
            lease_attempts=jobs.c.lease_attempts + 1,
            **_free(lease_seconds),
        )
        .returning(jobs.c.model, jobs.c.lease_token, jobs.c.lease_attempts)
    )
    row = connection.execute(statement).one_or_none()
    return JobLease(job_id, *row) if row else None


def held_by(lease: JobLease) -> ColumnElement[bool]:
    return and_(jobs.c.id == lease.job_id, jobs.c.lease_token == lease.token)


def advance_plan(
    connection: Connection, lease: JobLease, *, cursor: dict[str, Any], lease_seconds: float
) -> None:
    """Remember how far planning is, renew its lease, and start its attempts anew.

    Raises `LeaseLost` when another planner took over or the job is no longer wanted.
    """
    statement = (
        update(jobs)
        .where(held_by(lease), _NEEDS_PLANNING)
        .values(
            plan_cursor=cursor,
            lease_attempts=1,
            lease_expires_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, lease_seconds),
        )
    )
    if connection.execute(statement).rowcount == 0:
        raise LeaseLost(lease.job_id)


def renew_job(
    connection: Connection, lease: JobLease, *, finishing: bool, lease_seconds: float
) -> None:
    """Keep the lease; raises `LeaseLost` when it is another's or the need for it is gone."""
    expiry = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, lease_seconds)
    needed = _NEEDS_FINISHING if finishing else _NEEDS_PLANNING
    statement = update(jobs).where(held_by(lease), needed)
    if connection.execute(statement.values(lease_expires_at=expiry)).rowcount == 0:
        raise LeaseLost(lease.job_id)


def require_held(connection: Connection, lease: JobLease) -> None:
    """For the rest of the transaction; raises `LeaseLost`."""
    mine = select(jobs.c.id).where(held_by(lease)).with_for_update()
    if connection.execute(mine).first() is None:
        raise LeaseLost(lease.job_id)


def abandon_job(connection: Connection, lease: JobLease) -> None:
    """The holder is about to die: the next one need not wait for the lease to run out."""
    ended = update(jobs).where(held_by(lease)).values(lease_expires_at=func.now())
    if connection.execute(ended).rowcount:
        record_event(connection, lease.job_id, kind="job.stalled")


def release_job(connection: Connection, lease: JobLease) -> bool:
    """Give the lease up; False when it is another's."""
    values = {"lease_expires_at": None, "lease_owner": None, "lease_attempts": 0}
    return connection.execute(update(jobs).where(held_by(lease)).values(values)).rowcount > 0


def finish_job(
    connection: Connection, lease: JobLease, *, to: JobStatus, manifest_number: int
) -> bool:
    """Give the job its last status and its manifest; False when the lease is another's."""
    if not move_job(connection, lease.job_id, to=to, when=held_by(lease)):
        return False
    connection.execute(
        update(jobs)
        .where(held_by(lease))
        .values(
            manifest_number=manifest_number,
            lease_expires_at=None,
            lease_owner=None,
            paused_at=None,
        )
    )
    return True


def jobs_to_plan(connection: Connection, *, limit: int = 100) -> list[str]:
    """For the sweeper: jobs whose planner was never called, or died."""
    query = select(jobs.c.id).where(_NEEDS_PLANNING, _LEASE_FREE).limit(limit)
    return list(connection.execute(query).scalars())


def jobs_to_finish(connection: Connection, *, limit: int = 100) -> list[str]:
    """For the sweeper: jobs with nothing left to run that nobody has finished."""
    query = select(jobs.c.id).where(_NEEDS_FINISHING, _LEASE_FREE).limit(limit)
    return list(connection.execute(query).scalars())


def ended_jobs(
    connection: Connection,
    *,
    after: tuple[datetime, str] | None,
    rest_seconds: float,
    look_back_seconds: float,
    limit: int,
) -> list[Job]:
    """Jobs that ended at least `rest_seconds` ago, `look_back_seconds` at most, in that order;
    `after` is (finished_at, id) of the last one seen."""
    rest, look_back = (
        func.make_interval(0, 0, 0, 0, 0, 0, seconds)
        for seconds in (rest_seconds, look_back_seconds)
    )
    query = select(*_COLUMNS).where(
        jobs.c.finished_at.between(func.now() - look_back, func.now() - rest),
        jobs.c.cleaned_at.is_(None),
    )
    if after is not None:
        query = query.where(tuple_(jobs.c.finished_at, jobs.c.id) > after)
    rows = connection.execute(query.order_by(jobs.c.finished_at, jobs.c.id).limit(limit))
    return [_job(row) for row in rows]


def needs_finishing(connection: Connection, job_id: str) -> bool:
    query = select(exists().where(jobs.c.id == job_id, _NEEDS_FINISHING))
    return bool(connection.execute(query).scalar_one())


def has_images_never_run(connection: Connection, job_id: str) -> bool:
    """Whether shards were canceled before their end."""
    query = exists().where(
        shards.c.job_id == job_id,
        shards.c.status == ShardStatus.CANCELED,
        shards.c.committed < shards.c.image_count,
    )
    return bool(connection.execute(select(query)).scalar_one())


def drop_shards(connection: Connection, job_id: str) -> None:
    """Forget what was planned and made of a job whose planning failed."""
    connection.execute(shards.delete().where(shards.c.job_id == job_id))
    record_event(connection, job_id, kind="shards.dropped")
