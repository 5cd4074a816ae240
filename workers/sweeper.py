"""Finds what was lost: bells that did not ring, runners that died, parts that nobody owns."""

from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from storage import jobs, outbox, shards, slices
from storage.database import Database
from storage.jobs import Job
from storage.object_store import StoreError, StoreUnavailable
from storage.results_store import results_store
from storage.settings import Settings
from storage.slices import LooseSlice

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sweeper:
    settings: Settings
    database: Database

    def sweep(self, *, ring_for_jobs: bool, ring_for_shards: bool) -> None:
        """Ring only where no bell is on its way: they would pile up while workers are busy."""
        with self.database.begin() as connection:
            shards.cancel_abandoned_shards(connection)
            if ring_for_jobs:
                self._ring_for_jobs(connection)
            if ring_for_shards and shards.work_is_waiting(connection):
                outbox.ring(connection, outbox.Tasks.RUN_SHARDS)
        self._delete_loose_parts()

    def _ring_for_jobs(self, connection: Connection) -> None:
        for job_id in jobs.jobs_to_plan(connection):
            outbox.ring(connection, outbox.Tasks.PLAN_JOB, job_id=job_id)
        for job_id in jobs.jobs_to_finish(connection):
            outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=job_id)

    def _delete_loose_parts(self) -> None:
        """Parts of slices that were never committed, once their shard has ended."""
        with self.database.begin() as connection:
            loose = slices.loose_slices(connection)
            owners = {s.job_id: jobs.find_job(connection, s.job_id) for s in loose}
        for job_id, job in owners.items():
            self._delete_parts(job, [s for s in loose if s.job_id == job_id])

    def _delete_parts(self, job: Job | None, loose: list[LooseSlice]) -> None:
        """A store that is away is asked again; one that forbids deleting keeps its orphans."""
        keys = [key for s in loose for key in (s.annotations_key, s.images_key)]
        try:
            if job is not None:
                results_store(job, settings=self.settings).delete(keys)
        except StoreUnavailable as error:
            log.warning("sweeper.store_unavailable", error=str(error))
            return
        except StoreError as error:
            log.warning("sweeper.parts_not_deleted", error=str(error), keys=len(keys))
        with self.database.begin() as connection:
            slices.forget_slices(connection, loose)
        log.info("sweeper.parts_deleted", slices=len(loose))
