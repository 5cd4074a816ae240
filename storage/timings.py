"""How a job's work went over time, by when its slices were committed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from sqlalchemy import Connection, func, select, text

from domain.stages import STAGES, Stage
from storage.conditions import SLICE_IS_COMMITTED
from storage.shards import stage_seconds
from storage.slices import Slice
from storage.tables import shards, slices

_STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200)  # seconds
_DAY = 86400


@dataclass(frozen=True, slots=True)
class Work:
    """From the first slice that was opened to the last that was committed."""

    began_at: datetime
    first_at: datetime  # commit
    last_at: datetime  # commit


@dataclass(frozen=True, slots=True)
class Step:
    """What was committed in the seconds from `began_at` on."""

    began_at: datetime
    images: int
    failed: int


def work_of(connection: Connection, job_id: str) -> Work | None:
    """None before the first commit."""
    query = select(
        func.min(slices.c.created_at),
        func.min(slices.c.committed_at),
        func.max(slices.c.committed_at),
    ).where(slices.c.job_id == job_id, SLICE_IS_COMMITTED)
    began_at, first_at, last_at = connection.execute(query).one()
    return None if began_at is None else Work(began_at, first_at, last_at)


def stage_seconds_of(connection: Connection, job_id: str) -> dict[Stage, float] | None:
    """What each stage has taken so far, all threads and workers together; None before any has."""
    sums = (func.sum(stage_seconds(stage)).label(stage) for stage in STAGES)
    row = connection.execute(select(*sums).where(shards.c.job_id == job_id)).one()
    found = {stage: getattr(row, stage) or 0.0 for stage in STAGES}
    return found if any(found.values()) else None


def step_seconds(work: Work, *, most: int) -> int:
    """So long that `most` steps have all of it, and a round number."""
    least = (work.last_at - work.began_at).total_seconds() / most
    return next((step for step in _STEPS if step >= least), ceil(least / _DAY) * _DAY)


def steps_of(connection: Connection, job_id: str, work: Work, *, seconds: int) -> list[Step]:
    """One after the other, also those in which nothing was committed."""
    rows = connection.execute(
        _STEPS_OF, {"job_id": job_id, "origin": work.began_at, "seconds": seconds}
    )
    done = {row.place: (row.images, row.failed) for row in rows}
    return [
        Step(work.began_at + timedelta(seconds=place * seconds), *done.get(place, (0, 0)))
        for place in range(max(done, default=-1) + 1)
    ]


_STEPS_OF = text("""
    SELECT floor(extract(epoch FROM committed_at - :origin) / :seconds)::int8 AS place,
           sum(count)::int8 AS images, sum(failed)::int8 AS failed
      FROM slices
     WHERE job_id = :job_id AND status = 'committed'
     GROUP BY place
""")


def sampled_slices(connection: Connection, job_id: str, *, most: int) -> list[Slice]:
    """Committed ones, at equal distances over the whole job."""
    columns = [slices.c[name] for name in Slice.__dataclass_fields__]
    place = func.row_number().over(order_by=slices.c.first_image_index) - 1
    all_ = (
        select(*columns, place.label("place"), func.count().over().label("total"))
        .where(slices.c.job_id == job_id, SLICE_IS_COMMITTED)
        .subquery()
    )
    distance = (all_.c.total + most - 1) // most
    query = (
        select(*(all_.c[name] for name in Slice.__dataclass_fields__))
        .where(all_.c.place % distance == 0)
        .order_by(all_.c.first_image_index)
    )
    return [Slice(*row) for row in connection.execute(query)]
