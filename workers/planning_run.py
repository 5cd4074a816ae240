"""Planning: the source is streamed into shards, which run while planning goes on."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial

import structlog

from domain.documents import ItemPromptDocument, NewItem
from domain.errors import InvalidRequest, LeaseLost
from domain.lifecycle import JobStatus
from domain.planning import ShardBudget, passes_of
from storage import jobs, outbox
from storage.jobs import Job, JobLease
from storage.tracing import span
from storage.transitions import move_job
from workers.expiring_links import LinkCheck
from workers.heartbeat import Heartbeat
from workers.job_heartbeat import job_heartbeat
from workers.plan_writer import PlanWriter, plan_writer
from workers.planning_sources import Cursor, PlanningSource, open_source
from workers.runtime import Runtime
from workers.sampling_run import Sampled, draw_sample

log = structlog.get_logger()

INTERRUPTED = "planning_failed"
# A turn, from its first shard on: what goes before comes again with each, so it must pay. After it
# another message goes on, so that no small or ended job waits behind a large source.
TURN_SECONDS = 120.0
LONG_TURN_SECONDS = 480.0  # of sources that have to be read again up to the cursor
MAX_PLANNING_ATTEMPTS = 10  # in a row without a new shard; each waits for a lease to run out


def plan_job(runtime: Runtime, job_id: str) -> None:
    """Take the job's lease and plan for a turn; a planner that died is followed by another."""
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
        _fail(runtime, job, lease, InvalidRequest(INTERRUPTED, reason))
        return
    try:
        with span("plan job", parent=job.traceparent, kind="consumer", job_id=job_id):
            _plan(runtime, job, lease=lease)
    except LeaseLost:
        log.info("planning.stopped", job_id=job_id)
        _give_up_lease(runtime, lease)
    except InvalidRequest as error:
        _fail(runtime, job, lease, error)
    except Exception:  # an infrastructure fault, or one of ours: the sweeper rings again
        log.exception("planning.interrupted", job_id=job_id, attempt=lease.attempts)


def _plan(runtime: Runtime, job: Job, *, lease: JobLease) -> None:
    with (
        job_heartbeat(runtime, lease, finishing=False) as beat,
        open_source(runtime, job, progress=beat.progress) as source,
    ):
        beat.expect_progress()
        if job.sample_images is not None and job.sample_shards is None:
            _sample(runtime, job, source, lease=lease, beat=beat)
            return
        with plan_writer(runtime, lease, cursor=Cursor(**(job.plan_cursor or {}))) as writer:
            is_whole = _plan_turn(runtime, job, source=source, writer=writer, beat=beat)
            writer.finish()
    if not is_whole:
        _give_way(runtime, lease, writer.cursor)
        return
    LinkCheck(runtime, job).check(writer.cursor)
    if writer.cursor.images == 0:
        raise InvalidRequest("no_images", f"there are no images in {source.description}")
    with runtime.database.begin() as connection:
        jobs.advance_plan(connection, lease, cursor=asdict(writer.cursor), lease_seconds=0)
        move_job(connection, job.id, to=JobStatus.RUNNING, when=jobs.held_by(lease))
        jobs.release_job(connection, lease)
        outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=job.id)


def _sample(
    runtime: Runtime, job: Job, source: PlanningSource, *, lease: JobLease, beat: Heartbeat
) -> None:
    left_off_at = draw_sample(
        runtime,
        job,
        source,
        lease=lease,
        beat=beat,
        lists=partial(_shard_lists, job_prompts=len(job.prompts)),
        turn_seconds=_turn_seconds(source),
    )
    if left_off_at is not None:
        _give_way(runtime, lease, left_off_at)


def _turn_seconds(source: PlanningSource) -> float:
    return LONG_TURN_SECONDS if source.reads_again else TURN_SECONDS


def _plan_turn(
    runtime: Runtime, job: Job, *, source: PlanningSource, writer: PlanWriter, beat: Heartbeat
) -> bool:
    """Whether the source came to its end; else some of it is left for another turn."""
    links = LinkCheck(runtime, job)
    seconds = _turn_seconds(source)
    ends = None
    sampled = Sampled.of_job(runtime, job.id, writer.cursor, source)
    left = (item for item in source.items(writer.cursor) if not sampled.has(item))
    for items in _shard_lists(left, job_prompts=len(job.prompts)):
        if beat.over.is_set() or runtime.stopping.is_set():
            raise LeaseLost(job.id)
        writer.add(items)
        links.look(writer.planned)
        beat.progress()
        ends = ends or time.monotonic() + seconds
        if time.monotonic() >= ends:
            return False
    sampled.require_met()
    return True


def _give_way(runtime: Runtime, lease: JobLease, cursor: Cursor) -> None:
    """To messages that wait. Raises LeaseLost where the job is no longer wanted."""
    with runtime.database.begin() as connection:
        jobs.advance_plan(connection, lease, cursor=asdict(cursor), lease_seconds=0)
        jobs.release_job(connection, lease)
        outbox.ring(connection, outbox.Tasks.PLAN_JOB, job_id=lease.job_id)
    log.info("planning.gives_way", job_id=lease.job_id, images=cursor.images)


def _shard_lists(found: Iterator[NewItem], *, job_prompts: int) -> Iterator[list[NewItem]]:
    """The images in lists that one shard can take."""
    items: list[NewItem] = []
    budget, plain = ShardBudget(), passes_of(job_prompts)
    for item in found:
        passes, marks = _cost(item.prompts) if item.prompts else (plain, 0)
        if not budget.admits(passes=passes, marks=marks):
            yield items
            items, budget = [], ShardBudget()
            budget.admits(passes=passes, marks=marks)
        items.append(item)
    if items:
        yield items


def _cost(prompts: Sequence[ItemPromptDocument]) -> tuple[int, int]:
    """Passes and marks of an image that brings its own prompts."""
    marks = sum(1 + len(prompt.boxes) + len(prompt.points) for prompt in prompts)
    return passes_of(len(prompts)), marks


def _give_up_lease(runtime: Runtime, lease: JobLease) -> None:
    with runtime.database.begin() as connection:
        jobs.release_job(connection, lease)
        outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=lease.job_id)


def _fail(runtime: Runtime, job: Job, lease: JobLease, error: InvalidRequest) -> None:
    """The job fails. Where the request is at fault nothing half made stays behind; where the
    planners could not go on, what is labelled stays, and so does the sample of a preview."""
    log.info("planning.failed", job_id=lease.job_id, code=error.code)
    reason = {
        "code": error.code,
        "message": error.message,
        "line": error.line,
        "drop": error.code != INTERRUPTED and job.sample_shards is None,
    }
    with runtime.database.begin() as connection:
        if jobs.release_job(connection, lease):
            jobs.doom_job(connection, lease.job_id, reason)
