"""Failed images, tried again: an ended job runs once more, and slices take others' places."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, and_, func, null, select, update

from domain.errors import LeaseLost
from domain.lifecycle import RETRIABLE_JOB, JobStatus
from storage import outbox
from storage.conditions import SLICE_IS_COMMITTED, SLICE_IS_LOOSE
from storage.retention import TAKEN
from storage.shards import ShardLease, SliceCounts, held
from storage.slices import Slice
from storage.tables import jobs, shards, slices
from storage.transitions import move_job, reopen_shards


def retry_job(connection: Connection, job_id: str, *, codes: Collection[str]) -> int | None:
    """Have failed images with one of `codes` (none: with any) run again.

    Returns the number of shards that do: with 0 the caller must not commit. None when the job has
    not ended, cannot be tried again, or its image lists are gone.
    """
    ended = and_(
        jobs.c.status.in_(RETRIABLE_JOB),
        jobs.c.cleaned_at.is_(None),
        jobs.c.lease_owner.is_distinct_from(TAKEN),
    )
    # Without it the source was never listed to its end, and that stays so.
    planned = select(jobs.c.running_at).where(jobs.c.id == job_id).with_for_update()
    planned_at = connection.execute(planned).scalar_one_or_none()
    if not move_job(connection, job_id, to=JobStatus.RUNNING, when=ended):
        return None
    again = (
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            running_at=planned_at,
            wanted_at=func.now(),
            finished_at=None,
            totals=null(),
            cancel_requested_at=None,
            lease_attempts=0,
        )
        .returning(jobs.c.model)
    )
    model = connection.execute(again).scalar_one()
    _pardon(connection, job_id)
    outbox.ring(connection, outbox.Tasks.RUN_SHARDS, model=model)
    return reopen_shards(connection, job_id, codes=codes)


def _pardon(connection: Connection, job_id: str) -> None:
    """What was in flight in earlier runs is no sign of what kills a worker now."""
    old = update(slices).where(slices.c.job_id == job_id, SLICE_IS_LOOSE)
    connection.execute(old.values(status="released"))


def replace_slice(
    connection: Connection,
    lease: ShardLease,
    old: Slice,
    *,
    counts: SliceCounts,
    parts: dict[str, Any],
    position: int,
) -> None:
    """Put the slice that this lease has opened in the place of `old`; raises `LeaseLost`.

    `counts` and `parts` are of all its images. Those of the shard before `position` have then
    been tried again.
    """
    assert lease.retry is not None
    before = SliceCounts(old.count - old.failed, old.failed, old.parts["annotations"]["rows"])
    progressed = (
        update(shards)
        .where(held(lease))
        .values(
            succeeded=shards.c.succeeded + counts.succeeded - before.succeeded,
            failed=shards.c.failed + counts.failed - before.failed,
            instances=shards.c.instances + counts.instances - before.instances,
            attempts=1 if counts.succeeded > before.succeeded else shards.c.attempts,
            retry_codes={"codes": sorted(lease.retry.codes), "position": position},
        )
    )
    superseded = (
        update(slices)
        .where(slices.c.job_id == lease.job_id, slices.c.shard_number == lease.number)
        .where(slices.c.annotations_key == old.annotations_key, SLICE_IS_COMMITTED)
        .values(status="superseded")
    )
    for statement in (progressed, superseded):
        if connection.execute(statement).rowcount == 0:
            raise LeaseLost(f"{lease.job_id} shard {lease.number}")
    connection.execute(
        update(slices)
        .where(slices.c.job_id == lease.job_id, slices.c.shard_number == lease.number)
        .where(slices.c.start == old.start, slices.c.token == lease.token)
        .values(
            status="committed",
            count=old.count,
            first_image_index=old.first_image_index,
            failed=counts.failed,
            parts=parts,
            committed_at=func.now(),
        )
    )
