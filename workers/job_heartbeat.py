"""Keeps the lease of a job that is being planned or finished, and watches that work."""

from contextlib import AbstractContextManager

from storage import jobs, outbox
from storage.jobs import JobLease
from workers.heartbeat import Heartbeat, Watch, heartbeat
from workers.runtime import Runtime


def job_heartbeat(
    runtime: Runtime, lease: JobLease, *, finishing: bool
) -> AbstractContextManager[Heartbeat]:
    """As `heartbeat`. The work is over once the job needs neither planning nor finishing."""
    settings, database = runtime.settings, runtime.database
    name, bell = (
        ("finishing", outbox.Tasks.FINISH_JOB) if finishing else ("planning", outbox.Tasks.PLAN_JOB)
    )

    def renew() -> bool:
        with runtime.metrics.renewing(), database.begin() as connection:
            jobs.renew_job(
                connection, lease, finishing=finishing, lease_seconds=settings.lease_seconds
            )
        return True

    def abandon() -> None:
        with database.begin() as connection:
            jobs.abandon_job(connection, lease)
            outbox.ring(connection, bell, job_id=lease.job_id)

    watch = Watch(name, settings.stall_seconds, abandon=abandon)
    return heartbeat(renew, lease_seconds=settings.lease_seconds, watch=watch)
