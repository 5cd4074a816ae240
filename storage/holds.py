"""Jobs on hold: planned no further than a sample of their images, until they are promoted."""

from sqlalchemy import Connection, func, update

from storage import outbox
from storage.conditions import JOB_IS_OPEN
from storage.events import record_event
from storage.jobs import IS_WANTED, JobLease, held_by, release_job
from storage.tables import jobs


def ask_for_sample(connection: Connection, job_id: str, *, images: int) -> bool:
    """Have so many images of a job on hold labelled; False where it is not, or has a sample."""
    asked = (
        update(jobs)
        .where(jobs.c.id == job_id, JOB_IS_OPEN, IS_WANTED)
        .where(jobs.c.held_at.is_not(None), jobs.c.sample_images.is_(None))
        .values(sample_images=images, wanted_at=func.now())
    )
    if connection.execute(asked).rowcount == 0:
        return False
    outbox.ring(connection, outbox.Tasks.PLAN_JOB, job_id=job_id)
    return True


def note_sample(connection: Connection, lease: JobLease, *, shard_count: int) -> None:
    """The sample is on record as the job's first shards. The lease is given up: of a job on hold
    nothing is left to plan, and of any other the next planner goes on."""
    statement = update(jobs).where(held_by(lease)).values(sample_shards=shard_count)
    connection.execute(statement)
    record_event(connection, lease.job_id, kind="job.sampled")
    release_job(connection, lease)
    outbox.ring(connection, outbox.Tasks.PLAN_JOB, job_id=lease.job_id)


def promote_job(connection: Connection, job_id: str) -> None:
    """Let a job on hold go on with all its images; those of its sample are not run again."""
    wished = (
        update(jobs)
        .where(jobs.c.id == job_id, JOB_IS_OPEN, jobs.c.held_at.is_not(None))
        .values(held_at=None, wanted_at=func.now(), lease_attempts=0)
    )
    if connection.execute(wished).rowcount:
        record_event(connection, job_id, kind="job.promoted")
        outbox.ring(connection, outbox.Tasks.PLAN_JOB, job_id=job_id)
