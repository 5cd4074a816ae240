"""Planning: the source is streamed into shards, which run while planning goes on."""

from collections.abc import Iterator
from dataclasses import asdict

import structlog

from domain.documents import ItemDocument
from domain.errors import InvalidRequest, LeaseLost
from domain.lifecycle import JobStatus
from domain.planning import images_per_shard
from storage import jobs, object_keys, outbox, shards
from storage.jobs import Job, JobLease
from storage.object_store import StoreUnavailable
from storage.shards import NewShard
from storage.transitions import move_job
from workers.heartbeat import heartbeat
from workers.planning_sources import Cursor, PlanningSource, open_source
from workers.runtime import Runtime

log = structlog.get_logger()

MAX_PLANNING_ATTEMPTS = 10  # in a row without a new shard


def plan_job(runtime: Runtime, job_id: str) -> None:
    """Take the job's lease and plan it to the end; a planner that died is followed by another."""
    seconds = runtime.settings.lease_seconds
    with runtime.database.begin() as connection:
        lease = jobs.claim_job(
            connection, job_id, finishing=False, owner=runtime.owner, lease_seconds=seconds
        )
        if lease is None:
            return
        move_job(connection, job_id, to=JobStatus.PLANNING)
        job = jobs.find_job(connection, job_id)
    assert job is not None
    try:
        _plan(runtime, job, lease=lease)
    except LeaseLost:
        log.info("planning.stopped", job_id=job_id)
        _give_up_lease(runtime, lease)
    except InvalidRequest as error:
        _fail(runtime, lease, error)
    except StoreUnavailable as error:
        _try_later(runtime, lease, error)


def _plan(runtime: Runtime, job: Job, *, lease: JobLease) -> None:
    cursor = Cursor(**(job.plan_cursor or {}))
    with (
        heartbeat(
            lambda: _renew(runtime, lease), lease_seconds=runtime.settings.lease_seconds
        ) as beat,
        open_source(runtime, job) as source,
    ):
        for items in _shard_lists(source, cursor, size=images_per_shard(len(job.prompts))):
            if beat.over.is_set() or runtime.stopping.is_set():
                raise LeaseLost(job.id)
            cursor = _add_shard(runtime, lease, items, cursor=cursor)
    if cursor.images == 0:
        raise InvalidRequest("no_images", f"there are no images in {source.description}")
    with runtime.database.begin() as connection:
        jobs.advance_plan(connection, lease, cursor=asdict(cursor), lease_seconds=0)
        move_job(connection, job.id, to=JobStatus.RUNNING, when=jobs.held_by(lease))
        jobs.release_job(connection, lease)
        outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=job.id)


def _shard_lists(
    source: PlanningSource, cursor: Cursor, *, size: int
) -> Iterator[list[ItemDocument]]:
    """Lists of `size` images, the first of which follows the cursor."""
    items: list[ItemDocument] = []
    for item in source.items(cursor):
        items.append(item)
        if len(items) == size:
            yield items
            items = []
    if items:
        yield items


def _add_shard(
    runtime: Runtime, lease: JobLease, items: list[ItemDocument], *, cursor: Cursor
) -> Cursor:
    """Write the image list, then, in one transaction, the shard, the cursor and a doorbell."""
    body = "\n".join(item.model_dump_json(exclude_defaults=True) for item in items)
    runtime.objects.put(object_keys.shard_list(lease.job_id, cursor.shards), body.encode("utf-8"))
    new = NewShard(cursor.shards, items[0].index, len(items))
    after = Cursor(cursor.shards + 1, cursor.images + len(items), items[-1].image)
    with runtime.database.begin() as connection:
        jobs.advance_plan(
            connection,
            lease,
            cursor=asdict(after),
            lease_seconds=runtime.settings.lease_seconds,
        )
        shards.add_shards(connection, lease.job_id, [new])
        outbox.ring(connection, outbox.Tasks.RUN_SHARDS)
    return after


def _renew(runtime: Runtime, lease: JobLease) -> bool:
    with runtime.database.begin() as connection:
        jobs.renew_job(connection, lease, lease_seconds=runtime.settings.lease_seconds)
    return True


def _give_up_lease(runtime: Runtime, lease: JobLease) -> None:
    with runtime.database.begin() as connection:
        jobs.release_job(connection, lease)
        outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=lease.job_id)


def _fail(runtime: Runtime, lease: JobLease, error: InvalidRequest) -> None:
    """The source cannot be planned: the job fails, and what was made so far is dropped."""
    log.info("planning.failed", job_id=lease.job_id, code=error.code)
    reason = {"code": error.code, "message": error.message, "line": error.line, "drop": True}
    with runtime.database.begin() as connection:
        jobs.doom_job(connection, lease.job_id, reason)
        jobs.release_job(connection, lease)


def _try_later(runtime: Runtime, lease: JobLease, error: StoreUnavailable) -> None:
    """The lease runs out by itself, then the sweeper rings again."""
    log.warning("planning.store_unavailable", job_id=lease.job_id, error=str(error))
    if lease.attempts >= MAX_PLANNING_ATTEMPTS:
        _fail(runtime, lease, InvalidRequest("source_unavailable", str(error)))
