"""Planning: the source is streamed into shards, which run while planning goes on."""

from collections.abc import Iterator
from dataclasses import asdict

import structlog

from domain.documents import ItemDocument
from domain.errors import InvalidRequest, LeaseLost
from domain.lifecycle import JobStatus
from domain.planning import ShardBudget
from storage import jobs, object_keys, outbox, shards
from storage.jobs import Job, JobLease
from storage.object_store import StoreError, StoreUnavailable
from storage.shards import NewShard
from storage.transitions import move_job
from workers.heartbeat import heartbeat
from workers.planning_sources import Cursor, PlanningSource, open_source
from workers.runtime import Runtime

log = structlog.get_logger()

INTERRUPTED = "planning_failed"
MAX_PLANNING_ATTEMPTS = 10  # in a row without a new shard; each waits for a lease to run out


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
    if lease.attempts > MAX_PLANNING_ATTEMPTS:
        reason = "its planners failed or died again and again"
        _fail(runtime, lease, InvalidRequest(INTERRUPTED, reason))
        return
    try:
        _plan(runtime, job, lease=lease)
    except LeaseLost:
        log.info("planning.stopped", job_id=job_id)
        _give_up_lease(runtime, lease)
    except InvalidRequest as error:
        _fail(runtime, lease, error)
    except Exception:  # an infrastructure fault, or one of ours: the sweeper rings again
        log.exception("planning.interrupted", job_id=job_id, attempt=lease.attempts)


def _plan(runtime: Runtime, job: Job, *, lease: JobLease) -> None:
    cursor = Cursor(**(job.plan_cursor or {}))
    with (
        heartbeat(
            lambda: _renew(runtime, lease), lease_seconds=runtime.settings.lease_seconds
        ) as beat,
        open_source(runtime, job) as source,
    ):
        for items in _shard_lists(source, cursor, job_prompts=len(job.prompts)):
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
    source: PlanningSource, cursor: Cursor, *, job_prompts: int
) -> Iterator[list[ItemDocument]]:
    """The images after the cursor, in lists that one shard can take."""
    items: list[ItemDocument] = []
    budget = ShardBudget()
    for item in source.items(cursor):
        grown = _grown(budget, item, job_prompts=job_prompts)
        if items and grown.exceeded:
            yield items
            items, grown = [], _grown(ShardBudget(), item, job_prompts=job_prompts)
        items.append(item)
        budget = grown
    if items:
        yield items


def _grown(budget: ShardBudget, item: ItemDocument, *, job_prompts: int) -> ShardBudget:
    marks = sum(1 + len(prompt.boxes) + len(prompt.points) for prompt in item.prompts)
    return budget.grown(prompts=len(item.prompts) or job_prompts, marks=marks)


def _add_shard(
    runtime: Runtime, lease: JobLease, items: list[ItemDocument], *, cursor: Cursor
) -> Cursor:
    """Write the image list, then, in one transaction, the shard, the cursor and a doorbell."""
    body = "\n".join(item.model_dump_json(exclude_defaults=True) for item in items)
    _put_list(runtime, object_keys.shard_list(lease.job_id, cursor.shards), body)
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


def _put_list(runtime: Runtime, key: str, body: str) -> None:
    try:
        runtime.objects.put(key, body.encode("utf-8"))
    except StoreError as error:  # the service's own store: the user's source is not to blame
        raise StoreUnavailable(f"the service's own store: {error}") from error


def _renew(runtime: Runtime, lease: JobLease) -> bool:
    with runtime.database.begin() as connection:
        jobs.renew_job(
            connection, lease, finishing=False, lease_seconds=runtime.settings.lease_seconds
        )
    return True


def _give_up_lease(runtime: Runtime, lease: JobLease) -> None:
    with runtime.database.begin() as connection:
        jobs.release_job(connection, lease)
        outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=lease.job_id)


def _fail(runtime: Runtime, lease: JobLease, error: InvalidRequest) -> None:
    """The job fails. Where the request is at fault nothing half made stays behind; where the
    planners could not go on, what is labelled stays."""
    log.info("planning.failed", job_id=lease.job_id, code=error.code)
    reason = {
        "code": error.code,
        "message": error.message,
        "line": error.line,
        "drop": error.code != INTERRUPTED,
    }
    with runtime.database.begin() as connection:
        if jobs.release_job(connection, lease):
            jobs.doom_job(connection, lease.job_id, reason)
