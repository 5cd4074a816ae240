"""A shard run: lease, fetch, label, commit slice by slice. Whatever dies, the next goes on."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

import structlog

from domain.annotations import ImageOutcome
from domain.documents import ItemDocument
from domain.errors import ImageError, ImageErrorCode, InvalidRequest, LeaseLost
from domain.items import Item
from domain.planning import FIRST_SLICE_IMAGES, Span, images_per_slice, next_slice
from domain.prompts import ConceptPrompt, check_text_lengths
from domain.tokens import token_counter
from storage import jobs, object_keys, outbox, shards
from storage.datasets import local_root
from storage.jobs import Job
from storage.shards import OpenSlice, ShardLease
from workers.engine.engine import Engine
from workers.engine.pipeline import ImageTask, Pipeline
from workers.giving_way import giving_way
from workers.heartbeat import Heartbeat, heartbeat
from workers.runtime import Runtime
from workers.slice_writer import SliceWriter

log = structlog.get_logger()

# A task ends well before its message would be delivered again; the next message goes on.
TASK_SECONDS = 120


class End(Enum):
    COMPLETED = auto()
    UNWANTED = auto()  # canceled, or the job has failed
    GIVEN_BACK = auto()  # this process shall end, or it is time for another message


def run_shards(runtime: Runtime) -> None:
    """Run one shard after the other until none is left, or it is time for another message."""
    deadline = time.monotonic() + TASK_SECONDS
    while not runtime.stopping.is_set() and time.monotonic() < deadline:
        lease = _claim(runtime)
        if lease is None:
            return
        with structlog.contextvars.bound_contextvars(job_id=lease.job_id, shard=lease.number):
            _run_leased(runtime, lease)


def _claim(runtime: Runtime) -> ShardLease | None:
    """Lease a shard, and wake another worker if there is more to do."""
    settings = runtime.settings
    with runtime.database.begin() as connection:
        lease = shards.claim_shard(
            connection,
            owner=runtime.owner,
            models=settings.models,
            lease_seconds=settings.lease_seconds,
        )
        if lease and shards.work_is_waiting(connection):
            outbox.ring(connection, outbox.Tasks.RUN_SHARDS)
    return lease


def _run_leased(runtime: Runtime, lease: ShardLease) -> None:
    seconds = runtime.settings.lease_seconds
    if lease.attempts > runtime.settings.max_shard_attempts:
        _give_up(runtime, lease, error="its workers died again and again")
        return
    try:
        with heartbeat(lambda: _renew(runtime, lease), lease_seconds=seconds) as beat:
            end = _label(runtime, lease, beat=beat)
        _end(runtime, lease, end)
    except LeaseLost:
        log.warning("shard.lease_lost", token=lease.token)
    except InvalidRequest as error:
        _doom_job(runtime, lease, error)
    except Exception as error:  # an infrastructure fault: the shard is run again, not at once
        log.exception("shard.failed", attempt=lease.attempts)
        _retry_later(runtime, lease, error=f"{type(error).__name__}: {error}"[:500])


def _label(runtime: Runtime, lease: ShardLease, *, beat: Heartbeat) -> End:
    run = _prepare(runtime, lease, beat=beat)
    pipeline = Pipeline(
        run.engine, floor=run.job.floor, max_pixels=runtime.settings.max_image_pixels
    )
    with giving_way(run.engine, runtime.lane):
        while run.writer.committed < lease.image_count and not run.ends():
            run.stream(pipeline)
    if beat.lost:
        raise LeaseLost(lease.job_id)
    if run.writer.committed == lease.image_count:
        return End.COMPLETED
    return End.UNWANTED if beat.over.is_set() else End.GIVEN_BACK


@dataclass
class _ShardRun:
    """`opened` holds the slices whose images are on their way through the pipeline."""

    runtime: Runtime
    lease: ShardLease
    job: Job
    engine: Engine
    items: Sequence[Item]
    prompts: tuple[ConceptPrompt, ...]
    local_root: Path | None
    writer: SliceWriter
    beat: Heartbeat
    opened: deque[Span] = field(default_factory=deque)
    slice_images: int = FIRST_SLICE_IMAGES
    started: float = field(default_factory=time.monotonic)

    def stop(self) -> bool:
        return self.beat.over.is_set() or self.runtime.stopping.is_set()

    def ends(self) -> bool:
        """Whether to begin nothing more. After a while another message goes on, so that no small
        or urgent job waits behind a slow shard; what is in flight is done first."""
        return self.stop() or time.monotonic() - self.started > TASK_SECONDS

    def stream(self, pipeline: Pipeline) -> None:
        """Run what may be in flight together, and commit each slice as it is done."""
        done: list[tuple[Item, ImageOutcome]] = []
        with closing(pipeline.run(self.tasks())) as outcomes:
            for outcome in outcomes:
                span = self.opened[0]
                done.append((self.items[span.start + len(done)], outcome))
                if len(done) == span.count:
                    self._commit(done)
                    done = []
                if self.stop():
                    break
        if done:  # cut short: finished images are kept
            self._commit(done)

    def tasks(self) -> Iterator[ImageTask]:
        """The next images, slice by slice. A slice is on record before its images run, so that
        the next runner knows what was in flight if they kill this process. Where a runner died
        before, a slice runs alone, so that a death can be blamed on it."""
        start = position = self.writer.committed
        while position < self.lease.image_count and not self.ends():
            chosen = next_slice(
                position,
                shard_images=self.lease.image_count,
                lost=self.lease.lost,
                most=self.slice_images,
            )
            if chosen.alone and position > start:
                return
            self._open(chosen.span)
            for item in self.items[chosen.span.start : chosen.span.end]:
                yield self._task(item, blamed=chosen.blamed)
            if chosen.alone:
                return
            position = chosen.span.end

    def _commit(self, done: Sequence[tuple[Item, ImageOutcome]]) -> None:
        """Make the oldest open slice the result, or as much of it as is done."""
        span = self.opened.popleft()
        self.writer.commit(Span(span.start, len(done)), done)
        images = self.writer.committed - self.lease.committed
        self.slice_images = images_per_slice((time.monotonic() - self.started) / images)

    def _open(self, span: Span) -> None:
        number, token = self.lease.number, self.lease.token
        new = OpenSlice(
            span,
            object_keys.annotations_part(number, start=span.start, token=token),
            object_keys.images_part(number, start=span.start, token=token),
        )
        with self.runtime.database.begin() as connection:
            shards.open_slice(connection, self.lease, new)
        self.opened.append(span)

    def _task(self, item: Item, *, blamed: bool) -> ImageTask:
        prompts = item.prompts or self.prompts
        first = len(self.prompts) if item.prompts else 0
        return ImageTask(
            _blame if blamed else lambda: self._read(item), prompts, first_prompt_index=first
        )

    def _read(self, item: Item) -> bytes:
        return self.runtime.sources.read_image(
            item.uri, own=self.runtime.objects, local_root=self.local_root
        )


def _blame() -> bytes:
    raise ImageError(
        ImageErrorCode.OUT_OF_MEMORY, "the worker died of this image, also when it ran alone"
    )


def _prepare(runtime: Runtime, lease: ShardLease, *, beat: Heartbeat) -> _ShardRun:
    with runtime.database.begin() as connection:
        job = jobs.find_job(connection, lease.job_id)
        assert job is not None  # the shard's row refers to it
        root = local_root(connection, job.source)
    engine = runtime.engines.engine(job.model)
    items = _read_items(runtime, lease)
    prompts = job.parsed_prompts()
    count_tokens = token_counter(engine.tokenizer_json)
    check_text_lengths(prompts, engine.limits, count_tokens)
    for item in items:
        check_text_lengths(item.prompts, engine.limits, count_tokens)
    writer = SliceWriter(runtime, job, lease=lease, weights_sha256=engine.weights_sha256)
    return _ShardRun(runtime, lease, job, engine, items, prompts, root, writer, beat)


def _read_items(runtime: Runtime, lease: ShardLease) -> list[Item]:
    body = runtime.objects.get(object_keys.shard_list(lease.job_id, lease.number))
    return [ItemDocument.model_validate_json(line).to_item() for line in body.splitlines()]


def _renew(runtime: Runtime, lease: ShardLease) -> bool:
    with runtime.database.begin() as connection:
        return shards.renew_lease(connection, lease, lease_seconds=runtime.settings.lease_seconds)


def _end(runtime: Runtime, lease: ShardLease, end: End) -> None:
    with runtime.database.begin() as connection:
        if end is End.COMPLETED:
            shards.complete_shard(connection, lease)
        elif end is End.UNWANTED:
            shards.cancel_shard(connection, lease)
        else:
            shards.release_shard(connection, lease)
            outbox.ring(connection, outbox.Tasks.RUN_SHARDS)
    _ring_if_last(runtime, lease.job_id)


def _ring_if_last(runtime: Runtime, job_id: str) -> None:
    """In a transaction of its own: two last shards that end together then see each other."""
    with runtime.database.begin() as connection:
        if jobs.needs_finishing(connection, job_id):
            outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=job_id)


def _doom_job(runtime: Runtime, lease: ShardLease, error: InvalidRequest) -> None:
    log.warning("job.cannot_be_done", code=error.code, error=error.message)
    with runtime.database.begin() as connection:
        jobs.doom_job(connection, lease.job_id, {"code": error.code, "message": error.message})
        shards.fail_shard(connection, lease, error=error.message)
    _ring_if_last(runtime, lease.job_id)


def _retry_later(runtime: Runtime, lease: ShardLease, *, error: str) -> None:
    if lease.attempts >= runtime.settings.max_shard_attempts:
        _give_up(runtime, lease, error=error)
        return
    delay_seconds = min(60.0, 2.0**lease.attempts)
    with runtime.database.begin() as connection:
        shards.retry_shard_later(connection, lease, error=error, delay_seconds=delay_seconds)


def _give_up(runtime: Runtime, lease: ShardLease, *, error: str) -> None:
    message = f"shard {lease.number} was tried {lease.attempts} times; last: {error}"
    _doom_job(runtime, lease, InvalidRequest("shard_failed", message))
