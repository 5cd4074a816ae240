"""Finds what was lost: bells that did not ring, runners that died, parts that nobody owns."""

from dataclasses import dataclass

import structlog

from storage import jobs, outbox, shards, slices
from storage.database import Database
from storage.results_store import results_store
from storage.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sweeper:
    settings: Settings
    database: Database

    def sweep(self, *, ring_for_shards: bool) -> None:
        """`ring_for_shards`: whether no bell for shards is on its way (they would pile up)."""
        with self.database.begin() as connection:
            shards.cancel_abandoned_shards(connection)
            for job_id in jobs.jobs_to_plan(connection):
                outbox.ring(connection, outbox.Tasks.PLAN_JOB, job_id=job_id)
            for job_id in jobs.jobs_to_finish(connection):
                outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=job_id)
            if ring_for_shards and shards.work_is_waiting(connection):
                outbox.ring(connection, outbox.Tasks.RUN_SHARDS)
        self._delete_loose_parts()

    def _delete_loose_parts(self) -> None:
        """Parts of slices that were never committed, once their shard has ended."""
        with self.database.begin() as connection:
            loose = slices.loose_slices(connection)
            owners = {s.job_id: jobs.find_job(connection, s.job_id) for s in loose}
        for job_id, job in owners.items():
            if job is None:
                continue
            keys = [
                key
                for s in loose
                if s.job_id == job_id
                for key in (s.annotations_key, s.images_key)
            ]
            results_store(job, settings=self.settings).delete(keys)
        if loose:
            with self.database.begin() as connection:
                slices.forget_slices(connection, loose)
            log.info("sweeper.parts_deleted", slices=len(loose))
