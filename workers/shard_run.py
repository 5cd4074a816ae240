"""A shard run: lease, fetch, label, commit slice by slice. Whatever dies, the next goes on."""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from pathlib import Path

import structlog

from domain.annotations import ImageOutcome
from domain.documents import ItemDocument
from domain.errors import ImageError, ImageErrorCode, InvalidRequest, LeaseLost
from domain.items import Item
from domain.lifecycle import Wish
from domain.planning import FIRST_SLICE_IMAGES, Span, images_per_slice, next_slice
from domain.prompts import ConceptPrompt, check_text_lengths
from domain.tokens import token_counter
from storage import export_runs, jobs, object_keys, outbox, shards, tracing
from storage.datasets import local_root
from storage.jobs import Job
from storage.shards import OpenSlice, ShardLease
from workers.engine.fetch_window import current_fetch
from workers.engine.image_task import ImageTask
from workers.engines import Labeller, Pipeline
from workers.heartbeat import Heartbeat, Watch, heartbeat
from workers.retry_run import RetryRun
from workers.runtime import Runtime
from workers.slice_writer import SliceWriter
from workers.stage_times import StageTimes

log = structlog.get_logger()

# A task ends well before its message would be delivered again; the next message goes on.
TASK_SECONDS = 120


class End(Enum):
    COMPLETED = auto()
    CUT_SHORT = auto()  # canceled, paused, time for another message, or this process shall end


def run_shards(runtime: Runtime, models: Sequence[str] | None = None) -> None:
    """Run one shard after the other until none is left, or it is time for another message.

    Only of `models` (default: all of this worker's): loading a network takes a while, so the one
    that is loaded has its turn, and the message of another model's queue has the next.
    """
    models = models or runtime.settings.models
    deadline = time.monotonic() + TASK_SECONDS
    while not runtime.stopping.is_set() and time.monotonic() < deadline:
        lease = _claim(runtime, models)
        if lease is None:
            return
        with structlog.contextvars.bound_contextvars(job_id=lease.job_id, shard=lease.number):
            _run_leased(runtime, lease)


def _claim(runtime: Runtime, models: Sequence[str]) -> ShardLease | None:
    """Lease a shard, and wake another worker if there is more to do."""
    settings = runtime.settings
    with runtime.database.begin() as connection:
        lease = shards.claim_shard(
            connection,
            owner=runtime.owner,
            models=models,
            lease_seconds=settings.lease_seconds,
        )
        if lease:
            for model in set(models).intersection(shards.models_with_work(connection)):
                outbox.ring(connection, outbox.Tasks.RUN_SHARDS, model=model)
    return lease


def _run_leased(runtime: Runtime, lease: ShardLease) -> None:
    if lease.attempts > runtime.settings.max_shard_attempts:
        _give_up(runtime, lease, error="its workers died again and again")
        return
    try:
        with _heartbeat(runtime, lease) as beat:
            end = _label(runtime, lease, beat=beat)
        _end(runtime, lease, end)
    except LeaseLost:
        log.warning("shard.lease_lost", token=lease.token)
        runtime.metrics.shard_ended("lease_lost")
    except InvalidRequest as error:
        _doom_job(runtime, lease, error)
    except Exception as error:  # an infrastructure fault: the shard is run again, not at once
        log.exception("shard.failed", attempt=lease.attempts)
        _retry_later(runtime, lease, error=f"{type(error).__name__}: {error}"[:500])


def _label(runtime: Runtime, lease: ShardLease, *, beat: Heartbeat) -> End:
    run = _prepare(runtime, lease, beat=beat)
    pipeline = run.engine.pipeline(
        floor=run.job.floor,
        max_pixels=runtime.settings.max_image_pixels,
        observe=run.times.observe,
    )
    beat.expect_progress(lambda: pipeline.steps)
    with run.engine.giving_way(runtime.lane), _traced(run):
        is_done = run.retry(pipeline) if lease.retry else run.first(pipeline)
    if beat.lost:
        raise LeaseLost(lease.job_id)
    with runtime.database.begin() as connection:
        run.writer.keep_times(connection)
    return End.COMPLETED if is_done else End.CUT_SHORT


@dataclass
class _ShardRun:
    """`opened` holds the slices whose images are on their way through the pipeline."""

    runtime: Runtime
    lease: ShardLease
    job: Job
    engine: Labeller
    items: Sequence[Item]
    prompts: tuple[ConceptPrompt, ...]
    local_root: Path | None
    writer: SliceWriter
    times: StageTimes
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

    def first(self, pipeline: Pipeline) -> bool:
        """Run all images that have no outcome; whether none is left."""
        while self.writer.committed < self.lease.image_count and not self.ends():
            self.stream(pipeline)
        return self.writer.committed == self.lease.image_count

    def retry(self, pipeline: Pipeline) -> bool:
        """Run failed images again; whether none is left."""
        assert self.lease.retry is not None
        label = partial(self._label, pipeline)
        retry = RetryRun(
            self.runtime.database,
            self.lease,
            self.lease.retry,
            self.items,
            self.writer,
            label,
            self.ends,
        )
        return retry.run()

    def _label(self, pipeline: Pipeline, items: Sequence[Item]) -> list[ImageOutcome]:
        done: list[ImageOutcome] = []
        tasks = (self._task(item, blamed=False) for item in items)
        with closing(self._outcomes(pipeline, tasks)) as outcomes:
            for outcome in outcomes:
                done.append(outcome)
                if self.stop():
                    break
        return done

    def _outcomes(
        self, pipeline: Pipeline, tasks: Iterable[ImageTask]
    ) -> Generator[ImageOutcome, None, None]:
        in_flight = self.runtime.metrics.images_in_flight
        try:
            with closing(pipeline.run(tasks)) as outcomes:
                for outcome in outcomes:
                    self.beat.progress()
                    in_flight.dec()
                    yield outcome
        finally:
            in_flight.set(0)

    def stream(self, pipeline: Pipeline) -> None:
        """Run what may be in flight together, and commit each slice as it is done."""
        done: list[tuple[Item, ImageOutcome]] = []
        with closing(self._outcomes(pipeline, self.tasks())) as outcomes:
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
        self.beat.progress()
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
        self.runtime.metrics.images_in_flight.inc()
        return ImageTask(
            _blame if blamed else lambda: self._read(item),
            prompts,
            first_prompt_index=first,
            name=item.image,
        )

    def _read(self, item: Item) -> bytes:
        try:
            with self.times.stage("fetch"):
                return self.runtime.sources.read_image(
                    item.uri,
                    own=self.runtime.objects,
                    local_root=self.local_root,
                    fetch=current_fetch(),
                )
        finally:
            self.beat.progress()


@contextmanager
def _traced(run: _ShardRun) -> Iterator[None]:
    """A part of the trace of the request that made the job."""
    lease = run.lease
    with tracing.span(
        "run shard",
        parent=run.job.traceparent,
        kind="consumer",
        job_id=lease.job_id,
        shard=lease.number,
        model=run.job.model,
        attempt=lease.attempts,
    ) as traced:
        try:
            yield
        finally:
            traced.set(images=run.writer.images, failures=run.writer.failures)


def _blame() -> bytes:
    raise ImageError(
        ImageErrorCode.OUT_OF_MEMORY, "the worker died of this image, also when it ran alone"
    )


def _prepare(runtime: Runtime, lease: ShardLease, *, beat: Heartbeat) -> _ShardRun:
    with runtime.database.begin() as connection:
        job = jobs.find_job(connection, lease.job_id)
        assert job is not None  # the shard's row refers to it
        root = local_root(connection, job.source)
    engine = runtime.engines.labeller(job.model)
    items = _read_items(runtime, lease)
    prompts = job.parsed_prompts()
    count_tokens = token_counter(engine.tokenizer_json)
    check_text_lengths(prompts, engine.limits, count_tokens)
    for item in items:
        check_text_lengths(item.prompts, engine.limits, count_tokens)
    times = StageTimes(runtime.metrics)
    writer = SliceWriter(
        runtime, job, lease=lease, weights_sha256=engine.weights_sha256, times=times
    )
    return _ShardRun(runtime, lease, job, engine, items, prompts, root, writer, times, beat)


def _read_items(runtime: Runtime, lease: ShardLease) -> list[Item]:
    key = object_keys.shard_list(lease.job_id, lease.number, token=lease.list_token)
    body = runtime.objects.get(key)
    return [ItemDocument.model_validate_json(line).to_item() for line in body.splitlines()]


def _heartbeat(runtime: Runtime, lease: ShardLease) -> AbstractContextManager[Heartbeat]:
    settings = runtime.settings
    watch = Watch("shard", settings.stall_seconds, abandon=lambda: _abandon(runtime, lease))
    renew = partial(_renew, runtime, lease)
    return heartbeat(renew, lease_seconds=settings.lease_seconds, watch=watch)


def _abandon(runtime: Runtime, lease: ShardLease) -> None:
    with runtime.database.begin() as connection:
        shards.abandon_lease(connection, lease)
        outbox.ring(connection, outbox.Tasks.RUN_SHARDS, model=lease.model)


def _renew(runtime: Runtime, lease: ShardLease) -> bool:
    with runtime.metrics.renewing(), runtime.database.begin() as connection:
        wish = shards.renew_lease(connection, lease, lease_seconds=runtime.settings.lease_seconds)
    return wish is Wish.WANTED


def _end(runtime: Runtime, lease: ShardLease, end: End) -> None:
    with runtime.database.begin() as connection:
        if end is End.COMPLETED:
            ended = "completed"
            shards.complete_shard(connection, lease)
        elif shards.wish_of(connection, lease.job_id) is Wish.UNWANTED:
            ended = "unwanted"
            shards.cancel_shard(connection, lease)
        else:
            ended = "given_back"
            shards.release_shard(connection, lease)
            outbox.ring(connection, outbox.Tasks.RUN_SHARDS, model=lease.model)
    runtime.metrics.shard_ended(ended)
    _ring_if_last(runtime, lease.job_id)


def _ring_if_last(runtime: Runtime, job_id: str) -> None:
    """In a transaction of its own: two last shards that end together then see each other."""
    with runtime.database.begin() as connection:
        if jobs.needs_finishing(connection, job_id):
            outbox.ring(connection, outbox.Tasks.FINISH_JOB, job_id=job_id)
        if export_runs.preview_waits(connection, job_id):
            outbox.ring(connection, outbox.Tasks.RUN_EXPORTS)


def _doom_job(runtime: Runtime, lease: ShardLease, error: InvalidRequest) -> None:
    log.warning("job.cannot_be_done", code=error.code, error=error.message)
    with runtime.database.begin() as connection:
        if lease.retry:  # not the job, whose results stand: the failures stay as they were
            mine = shards.complete_shard(connection, lease, error=error.message)
        else:
            mine = shards.fail_shard(connection, lease, error=error.message)
            dooming = {"code": error.code, "message": error.message}
            if mine:
                jobs.doom_job(connection, lease.job_id, dooming)
    runtime.metrics.shard_ended("failed" if mine else "lease_lost")
    _ring_if_last(runtime, lease.job_id)


def _retry_later(runtime: Runtime, lease: ShardLease, *, error: str) -> None:
    with runtime.database.begin() as connection:
        attempts = shards.attempts_of(connection, lease)
        if attempts is not None and attempts < runtime.settings.max_shard_attempts:
            delay_seconds = min(60.0, 2.0**attempts)
            shards.retry_shard_later(connection, lease, error=error, delay_seconds=delay_seconds)
            runtime.metrics.shard_ended("put_off")
            return
    _give_up(runtime, lease, error=error)


def _give_up(runtime: Runtime, lease: ShardLease, *, error: str) -> None:
    most = runtime.settings.max_shard_attempts
    message = f"shard {lease.number} was tried {most} times without progress; last: {error}"
    _doom_job(runtime, lease, InvalidRequest("shard_failed", message))
