"""Removes parts that no slice owns: those of a runner that went on after it was taken for dead, and
then died between writing its parts and hearing that nobody wants them."""

import time
from collections.abc import Sequence
from datetime import datetime
from itertools import islice

import structlog

from storage import jobs, object_keys, slices
from storage.database import Database
from storage.jobs import Job
from storage.object_store import StoreError, StoreUnavailable
from storage.results_store import results_store
from storage.settings import Settings

log = structlog.get_logger()

# Nobody still writes so long after a job's end but who was paused for as long.
REST_LEASES = 10
LOOK_BACK_SECONDS = 24 * 3600.0
_JOBS_AT_ONCE = 20
_AWAY_SECONDS = 3600.0
_KEYS_AT_ONCE = 1000


class Tidying:
    """Each job once, some time after its end. Which ones are done is remembered by this process
    alone: one that is started anew looks back a day, and tidying twice changes nothing. Those whose
    store is away keep no others waiting: they are looked at again later."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._after: tuple[datetime, str] | None = None
        self._later: dict[str, float] = {}  # when their stores are asked again

    def tidy_some(self) -> None:
        for job in self._next_jobs():
            self._tidy(job)
            assert job.finished_at is not None  # they are chosen by it
            self._after = (job.finished_at, job.id)
        for job_id in self._due():
            self._tidy_again(job_id)

    def _tidy(self, job: Job) -> None:
        try:
            count = tidy_parts(job, settings=self._settings, database=self._database)
        except StoreUnavailable as error:
            log.warning("tidying.store_unavailable", job_id=job.id, error=str(error))
            self._later[job.id] = time.monotonic() + _AWAY_SECONDS
            return
        except StoreError as error:  # it does not let us list or delete: the parts stay
            log.info("tidying.refused", job_id=job.id, error=str(error))
        else:
            if count:
                log.info("tidying.parts_deleted", job_id=job.id, count=count)
        self._later.pop(job.id, None)

    def _due(self) -> list[str]:
        now = time.monotonic()
        return [job for job, due in self._later.items() if due <= now][:_JOBS_AT_ONCE]

    def _tidy_again(self, job_id: str) -> None:
        """Not one that is gone, or is tried again: that one ends anew, and is looked at then."""
        with self._database.begin() as connection:
            job = jobs.find_job(connection, job_id)
        if job is None or job.finished_at is None:
            del self._later[job_id]
        else:
            self._tidy(job)

    def _next_jobs(self) -> list[Job]:
        with self._database.begin() as connection:
            return jobs.ended_jobs(
                connection,
                after=self._after,
                rest_seconds=REST_LEASES * self._settings.lease_seconds,
                look_back_seconds=LOOK_BACK_SECONDS,
                limit=_JOBS_AT_ONCE,
            )


def tidy_parts(job: Job, *, settings: Settings, database: Database) -> int:
    """Delete the parts below the job's own results root that no slice of it owns; return how many.
    Nothing but parts is looked at, page by page, whatever else a user keeps there."""
    store = results_store(job, settings=settings)
    keys = (info.key for info in store.list(object_keys.PARTS))
    count = 0
    while page := list(islice(keys, _KEYS_AT_ONCE)):
        orphans = _orphans(job, page, database=database)
        store.delete(orphans)
        count += len(orphans)
    return count


def _orphans(job: Job, keys: Sequence[str], *, database: Database) -> list[str]:
    """A slice is on record before its parts are written, so what was listed before it was looked
    up, and is not on record, is nobody's."""
    shard_of = {key: object_keys.shard_of_part(key) for key in keys}
    numbers = {number for number in shard_of.values() if number is not None}
    with database.begin() as connection:
        owned = slices.keys_of_shards(connection, job.id, numbers)
    return [key for key, number in shard_of.items() if number is not None and key not in owned]
