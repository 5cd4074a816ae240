"""Finds what was lost: bells that did not ring, runners that died, parts that nobody owns."""

from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection

from storage import export_runs, jobs, outbox, presence, shards, slices, transitions
from storage.database import Database
from storage.jobs import Job
from storage.object_store import StoreError, StoreUnavailable
from storage.results_store import results_store
from storage.settings import Settings
from storage.slices import LooseSlice
from workers.away import Away

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sweeper:
    settings: Settings
    database: Database
    away: Away = field(default_factory=Away)

    def sweep(self, *, ring_for_jobs: bool) -> None:
        """Ring for jobs only while no bell is on its way: they would pile up while planners are
        busy. Of those for shards the publisher leaves out what waits already."""
        with self.database.begin() as connection:
            transitions.cancel_abandoned_shards(connection)
            presence.forget_silent(connection)
            if ring_for_jobs:
                self._ring_for_jobs(connection)
            for model in shards.models_with_work(connection):
                outbox.ring(connection, outbox.Tasks.RUN_SHARDS, model=model)
        self._delete_loose_parts()

    def _ring_for_jobs(self, connection: Connection) -> None:
        for job_id in jobs.jobs_to_plan(connection):
            outbox.ring(connection, outbox.Tasks.PLAN_JOB, job_id=job_id)
        for job_id in jobs.jobs_to_finish(connection):
            outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=job_id)
        if export_runs.exports_wait(connection):
            outbox.ring(connection, outbox.Tasks.RUN_EXPORTS)

    def _delete_loose_parts(self) -> None:
        """Parts of slices that were never committed, once their shard has ended."""
        with self.database.begin() as connection:
            loose = slices.loose_slices(connection, skipping=self.away.jobs())
            owners = {s.job_id: jobs.find_job(connection, s.job_id) for s in loose}
        for job_id, job in owners.items():
            try:
                self._delete_parts(job, [s for s in loose if s.job_id == job_id])
            except StoreUnavailable as error:
                log.warning("sweeper.store_unavailable", job_id=job_id, error=str(error))
                self.away.add(job_id)

    def _delete_parts(self, job: Job | None, loose: list[LooseSlice]) -> None:
        """A store that is away is asked again later; one that forbids deleting keeps its orphans.
        Raises `StoreUnavailable`."""
        keys = [key for s in loose for key in (s.annotations_key, s.images_key)]
        try:
            if job is not None:
                results_store(job, settings=self.settings).delete(keys)
        except StoreUnavailable:
            raise
        except StoreError as error:
            log.warning("sweeper.parts_not_deleted", error=str(error), keys=len(keys))
        with self.database.begin() as connection:
            slices.forget_slices(connection, loose)
        log.info("sweeper.parts_deleted", slices=len(loose))
