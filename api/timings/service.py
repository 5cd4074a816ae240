"""What is stored says of a job when it did what, and how long its images and their stages took."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from api.context import Context
from api.jobs.service import find
from api.results.stored import stored_part
from api.timings.schemas import ImageMilliseconds, StageSeconds, StepDocument, Timings
from domain.results import iter_images
from storage.jobs import Job
from storage.keys import ApiKey
from storage.object_store import ObjectStore
from storage.results_store import results_store
from storage.slices import Slice
from storage.timings import (
    Step,
    Work,
    sampled_slices,
    stage_seconds_of,
    step_seconds,
    steps_of,
    work_of,
)

_STEPS = 60  # of a chart
_PARTS = 20  # read for the milliseconds of images


def timings(context: Context, job_id: str, caller: ApiKey) -> Timings:
    seconds, steps = None, list[Step]()
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
        work = work_of(connection, job_id)
        stages = stage_seconds_of(connection, job_id)
        parts = sampled_slices(connection, job_id, most=_PARTS)
        if work is not None:
            seconds = step_seconds(work, most=_STEPS)
            steps = steps_of(connection, job_id, work, seconds=seconds)
    return Timings(
        **_stretches(job, work),
        step_seconds=seconds,
        steps=[StepDocument.model_validate(step, from_attributes=True) for step in steps],
        stage_seconds=stages and StageSeconds(**stages),
        image_milliseconds=_milliseconds(parts, results_store(job, settings=context.settings)),
    )


def _stretches(job: Job, work: Work | None) -> dict[str, float | None]:
    found = {
        "waiting_seconds": _seconds(job.created_at, job.planning_at),
        "planning_seconds": _seconds(job.planning_at, job.running_at),
    }
    first, began, last = (work.first_at, work.began_at, work.last_at) if work else (None,) * 3
    return found | {
        "first_result_seconds": _seconds(job.created_at, first),
        "labelling_seconds": _seconds(began, last),
        "finishing_seconds": _seconds(last, job.finished_at),
    }


def _seconds(began: datetime | None, ended: datetime | None) -> float | None:
    return (ended - began).total_seconds() if began and ended else None


def _milliseconds(parts: Sequence[Slice], store: ObjectStore) -> ImageMilliseconds | None:
    found: list[float] = []
    for part in parts:
        with stored_part(store, part.parts["images"]) as file:
            found += [row.milliseconds for row in iter_images(file) if row.succeeded]
    if not found:
        return None
    p50, p90, p99 = (float(value) for value in np.percentile(found, [50, 90, 99]))
    return ImageMilliseconds(
        images=len(found), mean=float(np.mean(found)), p50=p50, p90=p90, p99=p99
    )
