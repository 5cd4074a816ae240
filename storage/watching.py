"""How the service stands, for its metrics: a few reads along the indexes of what is open."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from storage.presence import LIVING, Worker, living_workers


@dataclass(frozen=True, slots=True)
class ModelQueue:
    """Of one model's open jobs. What waits is counted of jobs that are wanted (not paused, not
    canceled, not doomed), what runs of all. Seconds are 0 where nothing waits.

    `idle_seconds`: how long no slice has been committed although there is something to do.
    """

    model: str
    waiting_shards: int = 0
    waiting_images: int = 0
    running_leases: int = 0
    expired_leases: int = 0
    oldest_wait_seconds: float = 0.0
    idle_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    count: int
    oldest_seconds: float  # 0 where there are none


@dataclass(frozen=True, slots=True)
class Watched:
    """`jobs`: the open ones by status. `unplanned` have no planner yet; `retrying_deliveries` have
    failed before and will be tried again. `waiting_exports` are made by nobody now; the age of
    `running_exports` is that of their present run. `busy_workers` hold a shard, by model."""

    queues: tuple[ModelQueue, ...]
    jobs: dict[str, int]
    paused_jobs: int
    unplanned: Waiting
    bells: Waiting
    due_deliveries: Waiting
    retrying_deliveries: int
    waiting_exports: Waiting
    running_exports: Waiting
    busy_workers: dict[str, int] = field(default_factory=dict)
    workers: tuple[Worker, ...] = ()


def watched(connection: Connection) -> Watched:
    """Reads what is open only; a database that takes seconds for that is not waited for."""
    connection.execute(text("SET LOCAL statement_timeout = '3s'"))
    jobs = connection.execute(_JOBS).all()
    due = connection.execute(_DUE_DELIVERIES).one()
    return Watched(
        queues=tuple(ModelQueue(*row) for row in connection.execute(_QUEUES)),
        jobs={row.status: row.total for row in jobs},
        paused_jobs=sum(row.paused for row in jobs),
        unplanned=Waiting(*connection.execute(_UNPLANNED).one()),
        bells=Waiting(*connection.execute(_BELLS).one()),
        due_deliveries=Waiting(*due),
        retrying_deliveries=connection.execute(_RETRYING_DELIVERIES).scalar_one(),
        waiting_exports=Waiting(*connection.execute(_WAITING_EXPORTS).one()),
        running_exports=Waiting(*connection.execute(_RUNNING_EXPORTS).one()),
        busy_workers={row.model: row.workers for row in connection.execute(_BUSY_WORKERS)},
        workers=tuple(living_workers(connection)),
    )


def of_all_models(state: Watched, models: Iterable[str]) -> list[ModelQueue]:
    """Also of those that nobody asks anything of: their series must not come and go."""
    found = {queue.model: queue for queue in state.queues}
    return list({**{model: ModelQueue(model) for model in models}, **found}.values())


def _age(moment: str) -> str:
    return f"coalesce(greatest(extract(epoch FROM now() - {moment}), 0), 0)::float8"


_QUEUES = text(f"""
    WITH job AS (
        SELECT id, model, wanted_at,
               cancel_requested_at IS NULL AND paused_at IS NULL AND error IS NULL AS wanted
          FROM jobs WHERE status IN ('queued', 'planning', 'running')
    ), work AS (
        SELECT job.id, job.model, job.wanted, job.wanted_at,
               count(*) FILTER (WHERE wanted AND s.status = 'pending') AS waiting_shards,
               sum(image_count - committed) FILTER (WHERE wanted AND s.status = 'pending')
                   AS waiting_images,
               count(*) FILTER (WHERE s.status = 'running' AND s.lease_expires_at >= now())
                   AS running,
               count(*) FILTER (WHERE s.status = 'running' AND s.lease_expires_at < now())
                   AS expired,
               min(s.available_at) FILTER (WHERE wanted AND s.status = 'pending') AS oldest_at
          FROM job JOIN shards s ON s.job_id = job.id
         WHERE s.status IN ('pending', 'running')
         GROUP BY job.id, job.model, job.wanted, job.wanted_at
    )
    SELECT work.model, sum(waiting_shards)::int8, coalesce(sum(waiting_images), 0)::int8,
           sum(running)::int8, sum(expired)::int8, {_age("min(oldest_at)")},
           {_age("greatest(max(last.committed_at), min(wanted_at) FILTER (WHERE wanted))")}
      FROM work LEFT JOIN LATERAL (
            SELECT committed_at FROM slices
             WHERE slices.job_id = work.id AND committed_at IS NOT NULL
             ORDER BY committed_at DESC LIMIT 1
         ) AS last ON work.wanted
     GROUP BY work.model
""")  # noqa: S608  # nothing in it comes from outside

_JOBS = text("""
    SELECT status, count(*) AS total, count(*) FILTER (WHERE paused_at IS NOT NULL) AS paused
      FROM jobs WHERE status IN ('queued', 'planning', 'running') GROUP BY status
""")

_UNPLANNED = text(f"""
    SELECT count(*), {_age("min(wanted_at)")}
      FROM jobs WHERE status = 'queued'
       AND cancel_requested_at IS NULL AND paused_at IS NULL AND error IS NULL
       AND (held_at IS NULL OR sample_images IS NOT NULL)
""")  # noqa: S608

_BELLS = text(f"SELECT count(*), {_age('min(created_at)')} FROM outbox")  # noqa: S608

_DUE_DELIVERIES = text(f"""
    SELECT count(*), {_age("min(next_attempt_at)")}
      FROM deliveries WHERE next_attempt_at <= now()
""")  # noqa: S608

_RETRYING_DELIVERIES = text("""
    SELECT count(*) FROM deliveries WHERE next_attempt_at IS NOT NULL AND attempts > 0
""")

# A preview waits once its sample is labelled, as storage.export_runs has it. OFFSET has the
# sample's slices found by their shards: by their time, all later ones would be read first.
_WAITING_EXPORTS = text(f"""
    SELECT count(*), {_age("min(due_at)")} FROM (
        SELECT CASE WHEN e.kind = 'preview' THEN greatest(e.created_at, coalesce(
                   (SELECT max(committed_at) FROM (
                        SELECT s.committed_at FROM slices s
                         WHERE s.job_id = j.id AND s.shard_number < j.sample_shards OFFSET 0
                    ) AS sampled),
                   j.finished_at, j.planning_at))
               ELSE e.created_at END AS due_at
          FROM exports e JOIN jobs j ON j.id = e.job_id
         WHERE e.status IN ('queued', 'running')
           AND (e.lease_expires_at IS NULL OR e.lease_expires_at < now())
           AND (e.kind <> 'preview' OR j.status NOT IN ('queued', 'planning', 'running')
                OR coalesce((SELECT s.number FROM shards s
                              WHERE s.job_id = j.id AND s.status IN ('pending', 'running')
                              ORDER BY s.number LIMIT 1), j.sample_shards) >= j.sample_shards)
    ) AS waiting
""")  # noqa: S608

_RUNNING_EXPORTS = text(f"""
    SELECT count(*), {_age("min(running_at)")}
      FROM exports WHERE status IN ('queued', 'running') AND lease_expires_at >= now()
""")  # noqa: S608

_BUSY_WORKERS = text("""
    SELECT j.model, count(DISTINCT s.lease_owner) AS workers
      FROM jobs j JOIN shards s ON s.job_id = j.id
     WHERE j.status IN ('queued', 'planning', 'running')
       AND s.status = 'running' AND s.lease_expires_at >= now()
     GROUP BY j.model
""")

STATEMENTS: dict[str, Any] = {
    "queues": _QUEUES,
    "jobs": _JOBS,
    "unplanned": _UNPLANNED,
    "due deliveries": _DUE_DELIVERIES,
    "retrying deliveries": _RETRYING_DELIVERIES,
    "waiting exports": _WAITING_EXPORTS,
    "busy workers": _BUSY_WORKERS,
    "running exports": _RUNNING_EXPORTS,
    "living workers": LIVING,
}
