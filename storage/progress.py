"""How far jobs have come, and how fast. Open jobs are counted by their shards, so that no row is
fought over; a job that has ended has its totals in its own row."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, case, func, select, text, update

from domain.lifecycle import ShardStatus
from storage.tables import jobs, shards


@dataclass(frozen=True, slots=True)
class Progress:
    """Images by state. `total` grows while the job is being planned."""

    total: int = 0
    processing: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    instances: int = 0
    per_second: float | None = None  # over the last minute of work; None before the first slice


def progress_of(connection: Connection, job_ids: Collection[str]) -> dict[str, Progress]:
    known = _totals(connection, job_ids)
    open_ids = [job_id for job_id in job_ids if job_id not in known]
    if not open_ids:
        return known
    rates = rates_of(connection, open_ids)
    counted = _counted(connection, open_ids)
    nothing = Progress()
    return known | {
        job_id: replace(counted.get(job_id, nothing), per_second=rates.get(job_id))
        for job_id in open_ids
    }


def keep_totals(connection: Connection, job_id: str) -> None:
    """To be called in the transaction that ends the job."""
    totals = asdict(_counted(connection, [job_id]).get(job_id, Progress()))
    del totals["per_second"]
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(totals=totals))


def _totals(connection: Connection, job_ids: Collection[str]) -> dict[str, Progress]:
    query = select(jobs.c.id, jobs.c.totals).where(
        jobs.c.id.in_(job_ids), jobs.c.totals.is_not(None)
    )
    return {job_id: _stored(totals) for job_id, totals in connection.execute(query)}


def _stored(totals: Mapping[str, int]) -> Progress:
    return Progress(**{name: totals[name] for name in totals if name in Progress.__slots__})


def sample_progress(
    connection: Connection, job_id: str, *, shards_in_sample: int | None
) -> tuple[int, int | None]:
    """Images of the job's sample that have an outcome, and all of them: None until it is drawn."""
    if shards_in_sample is None:
        return 0, None
    query = select(func.sum(shards.c.committed), func.sum(shards.c.image_count)).where(
        shards.c.job_id == job_id, shards.c.number < shards_in_sample
    )
    done, total = connection.execute(query).one()
    return int(done or 0), int(total or 0)


def _counted(connection: Connection, job_ids: Sequence[str]) -> dict[str, Progress]:
    left = shards.c.image_count - shards.c.committed
    ended_early = shards.c.status.in_((ShardStatus.CANCELED, ShardStatus.FAILED))
    query = (
        select(
            shards.c.job_id,
            func.sum(shards.c.image_count),
            func.sum(case((shards.c.status == ShardStatus.RUNNING, left), else_=0)),
            func.sum(shards.c.succeeded),
            func.sum(shards.c.failed),
            func.sum(case((ended_early, left), else_=0)),
            func.sum(shards.c.instances),
        )
        .where(shards.c.job_id.in_(job_ids))
        .group_by(shards.c.job_id)
    )
    return {job_id: Progress(*map(int, sums)) for job_id, *sums in connection.execute(query)}


# The last minute of commits, but at least 40: where jobs take turns on a worker, or images take
# long, a minute says little. Not from before a pause. In the newest 300 events are those of some
# 60 shards, which is more than the 500 newest slices can be of.
_RECENT = text("""
    WITH recent AS (
        SELECT wanted.job_id, slice.*,
               row_number() OVER (PARTITION BY wanted.job_id ORDER BY committed_at DESC) AS place
          FROM unnest(CAST(:job_ids AS text[])) AS wanted (job_id)
         CROSS JOIN LATERAL (
               SELECT max(at) AS at
                 FROM (SELECT kind, at FROM events WHERE events.job_id = wanted.job_id
                        ORDER BY xid DESC, id DESC LIMIT 300) AS newest
                WHERE kind = 'job.resumed'
               ) AS resumed
         CROSS JOIN LATERAL (
               SELECT count, created_at, committed_at FROM slices
                WHERE slices.job_id = wanted.job_id
                  AND committed_at > greatest(now() - interval '10 minutes', resumed.at)
                ORDER BY committed_at DESC LIMIT 500
               ) AS slice
    ), sample AS (
        SELECT *, place <= 40 OR committed_at > now() - interval '60 seconds' AS taken FROM recent
    )
    SELECT job_id,
           (sum(count) FILTER (WHERE taken))::float8 AS images,
           (array_agg(count ORDER BY committed_at) FILTER (WHERE taken))[1] AS oldest_images,
           extract(epoch FROM now() - min(created_at) FILTER (WHERE taken))::float8
               AS seconds_since_begin,
           extract(epoch FROM now() - min(committed_at) FILTER (WHERE taken))::float8
               AS seconds_since_oldest,
           bool_and(taken) AND count(*) < 500 AS is_all
      FROM sample
     GROUP BY job_id
""")


def rates_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, float]:
    """Images per second of jobs that have slices."""
    rows = connection.execute(_RECENT, {"job_ids": list(job_ids)})
    return {row.job_id: _rate(row) for row in rows}


def _rate(row: Any) -> float:
    """From the job's begin, or else from one commit on and without that commit's images: a slice
    overlaps others, so when it began says nothing of what was done since."""
    if row.is_all:
        return float(row.images / max(row.seconds_since_begin, 0.001))
    return float((row.images - row.oldest_images) / max(row.seconds_since_oldest, 0.001))
