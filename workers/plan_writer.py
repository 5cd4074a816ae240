"""Writes what planning finds: image lists by several threads, then their shards in order."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice

from domain.documents import NewItem
from storage import jobs, object_keys, outbox, shards
from storage.jobs import JobLease
from storage.object_store import StoreError, StoreUnavailable
from storage.shards import NewShard
from workers.expiring_links import earliest_end
from workers.planning_sources import Cursor
from workers.runtime import Runtime

_LIST_THREADS = 8
_SHARDS_AT_ONCE = 16  # in one transaction: 1 ms a shard instead of 5
_RECORD_SECONDS = 1.0  # a slow source's shards are not kept back for longer
_MOST_WAITING_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class _Waiting:
    """`after` is the cursor once the shard is recorded."""

    shard: NewShard
    after: Cursor
    byte_count: int
    written: Future[None]


class PlanWriter:
    """`cursor` is on record, with all shards before it. Lists behind it may lie in the store:
    whoever goes on from there writes its own."""

    def __init__(
        self, runtime: Runtime, lease: JobLease, *, cursor: Cursor, pool: ThreadPoolExecutor
    ) -> None:
        self.cursor = cursor
        self._runtime = runtime
        self._lease = lease
        self._pool = pool
        self._end = cursor
        self._waiting: deque[_Waiting] = deque()
        self._due = 0.0  # the first shard is recorded at once, so that work begins

    def add(self, items: Sequence[NewItem]) -> None:
        """Take one shard's images, whose numbers are those in the source and become those in the
        job, and record what is due. Raises LeaseLost, StoreUnavailable."""
        shard = NewShard(self._end.shards, self._end.images, len(items), self._lease.token)
        self._end = replace(
            self._end,
            shards=shard.number + 1,
            images=self._end.images + len(items),
            read=items[-1].index + 1,
            after=items[-1].image,
            links_end=earliest_end(self._end.links_end, items),
        )
        body = list_of(items, first_index=shard.first_image_index)
        key = object_keys.shard_list(self._lease.job_id, shard.number, token=self._lease.token)
        written = self._pool.submit(put_list, self._runtime, key, body)
        self._waiting.append(_Waiting(shard, self._end, len(body), written))
        if time.monotonic() >= self._due or self._waiting_bytes() > _MOST_WAITING_BYTES:
            self._record(len(self._waiting))
        elif len(self._waiting) >= 2 * _SHARDS_AT_ONCE:
            self._record(_SHARDS_AT_ONCE)

    @property
    def planned(self) -> Cursor:
        """With shards that are not on record yet."""
        return self._end

    def finish(self) -> None:
        self._record(len(self._waiting))

    def _waiting_bytes(self) -> int:
        return sum(one.byte_count for one in self._waiting)

    def _record(self, count: int) -> None:
        """In one transaction: the oldest shards whose lists wait, the cursor and a doorbell."""
        if not count:
            return
        oldest = list(islice(self._waiting, count))
        for one in oldest:
            one.written.result()
        with self._runtime.database.begin() as connection:
            jobs.advance_plan(
                connection,
                self._lease,
                cursor=asdict(oldest[-1].after),
                lease_seconds=self._runtime.settings.lease_seconds,
            )
            shards.add_shards(connection, self._lease.job_id, [one.shard for one in oldest])
            outbox.ring(connection, outbox.Tasks.RUN_SHARDS, model=self._lease.model)
        for one in oldest:
            self._runtime.metrics.shard_planned(images=one.shard.image_count)
        self.cursor = oldest[-1].after
        for _ in oldest:
            self._waiting.popleft()
        self._due = time.monotonic() + _RECORD_SECONDS


def list_of(items: Sequence[NewItem], *, first_index: int) -> bytes:
    """A list of images whose numbers begin with `first_index`."""
    for index, item in enumerate(items, start=first_index):
        item.index = index
    return b"\n".join(item.to_line() for item in items)


def put_list(runtime: Runtime, key: str, body: bytes) -> None:
    with _own_store():
        runtime.objects.put(key, body)


def get_list(runtime: Runtime, key: str) -> bytes:
    with _own_store():
        return runtime.objects.get(key)


@contextmanager
def _own_store() -> Iterator[None]:
    """The user's source is not to blame for the service's own store."""
    try:
        yield
    except StoreError as error:
        raise StoreUnavailable(f"the service's own store: {error}") from error


@contextmanager
def plan_writer(runtime: Runtime, lease: JobLease, *, cursor: Cursor) -> Iterator[PlanWriter]:
    """After the block no list is on its way any more: the next planner may write the same."""
    pool = ThreadPoolExecutor(_LIST_THREADS, thread_name_prefix="planning-lists")
    try:
        yield PlanWriter(runtime, lease, cursor=cursor, pool=pool)
    finally:
        pool.shutdown(cancel_futures=True)
