"""The sample of a job on hold: some of its images, by chance, which become its first shards.

The source is read to its end, so that each image is as likely as any other and their number is
known. When the job is promoted it is read again, and the sample is left out.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace

from domain.documents import ItemDocument, NewItem
from domain.errors import InvalidRequest, LeaseLost
from domain.sampling import Sampler
from storage import holds, jobs, object_keys, outbox, shards
from storage.jobs import Job, JobLease
from storage.shards import NewShard
from workers.expiring_links import earliest_end
from workers.heartbeat import Heartbeat
from workers.plan_writer import get_list, list_of, put_list
from workers.planning_sources import Cursor, PlanningSource
from workers.runtime import Runtime

Lists = Callable[[Iterator[NewItem]], Iterator[list[NewItem]]]
"""Cuts images into lists that one shard can take each."""


def draw_sample(
    runtime: Runtime,
    job: Job,
    source: PlanningSource,
    *,
    lease: JobLease,
    beat: Heartbeat,
    lists: Lists,
    turn_seconds: float,
) -> Cursor | None:
    """Read on for a turn, from its first image on. At the source's end the sample is put on record,
    its lease given up, and None returned; else the cursor from which another turn goes on."""
    assert job.sample_images is not None
    cursor = Cursor(**(job.plan_cursor or {}))
    kept = [] if cursor.sample_token is None else _stored(runtime, job.id, cursor.sample_token)
    sampler = Sampler(job.sample_images, seed=job.id, kept=((item.index, item) for item in kept))
    ends = None
    for item in source.items(cursor):
        sampler.offer(item.index, item)
        cursor = replace(cursor, read=item.index + 1, after=item.image)
        if beat.over.is_set() or runtime.stopping.is_set():
            raise LeaseLost(job.id)
        ends = ends or time.monotonic() + turn_seconds
        if time.monotonic() >= ends:
            _store(runtime, lease, sampler.chosen())
            return replace(cursor, sample_token=lease.token)
    if cursor.read == 0:
        raise InvalidRequest("no_images", f"there are no images in {source.description}")
    _record(runtime, lease, sampler.chosen(), source_images=cursor.read, lists=lists)
    return None


def _store(runtime: Runtime, lease: JobLease, items: Sequence[NewItem]) -> None:
    body = b"\n".join(item.to_line() for item in items)
    put_list(runtime, object_keys.sample_list(lease.job_id, token=lease.token), body)


def _stored(runtime: Runtime, job_id: str, token: int) -> list[NewItem]:
    body = get_list(runtime, object_keys.sample_list(job_id, token=token))
    found = (ItemDocument.model_validate_json(line) for line in body.splitlines())
    return [NewItem(f.index, f.image, f.uri, f.custom_id, f.prompts) for f in found]


def _record(
    runtime: Runtime,
    lease: JobLease,
    chosen: Sequence[NewItem],
    *,
    source_images: int,
    lists: Lists,
) -> None:
    _store(runtime, lease, chosen)
    end = Cursor(
        links_end=earliest_end(None, chosen),
        sample_token=lease.token,
        source_images=source_images,
    )
    new: list[NewShard] = []
    for items in lists(iter(chosen)):
        shard = NewShard(len(new), end.images, len(items), lease.token)
        key = object_keys.shard_list(lease.job_id, shard.number, token=lease.token)
        put_list(runtime, key, list_of(items, first_index=end.images))
        new.append(shard)
        end = replace(end, shards=len(new), images=end.images + len(items))
    with runtime.database.begin() as connection:
        jobs.advance_plan(connection, lease, cursor=asdict(end), lease_seconds=0)
        shards.add_shards(connection, lease.job_id, new)
        holds.note_sample(connection, lease, shard_count=len(new))
        outbox.ring(connection, outbox.Tasks.RUN_SHARDS, model=lease.model)


class Sampled:
    """The images of a job's sample, which have their shards already."""

    def __init__(self, items: Sequence[NewItem], *, by_number: bool, read: int) -> None:
        """`read` images of the source are behind."""
        self._by_number = {item.index: item.to_line() for item in items} if by_number else None
        self._to_come = {number for number in self._by_number or () if number >= read}
        self._addresses = frozenset(item.uri for item in items)

    @classmethod
    def of_job(
        cls, runtime: Runtime, job_id: str, cursor: Cursor, source: PlanningSource
    ) -> "Sampled":
        """A manifest may name an image twice, with other prompts: there the line's number tells
        them apart, and a listing may have changed since: there the address does."""
        token = cursor.sample_token
        items = [] if token is None else _stored(runtime, job_id, token)
        return cls(items, by_number=source.reads_again, read=cursor.read)

    def has(self, item: NewItem) -> bool:
        """Raises `InvalidRequest` where the manifest is not what it was."""
        if self._by_number is None:
            return item.uri in self._addresses
        known = self._by_number.get(item.index)
        if known is not None and known != item.to_line():
            raise _changed(item.index)
        self._to_come.discard(item.index)
        return known is not None

    def require_met(self) -> None:
        """At the source's end: it may be shorter now. Raises `InvalidRequest`."""
        if self._to_come:
            raise _changed(min(self._to_come))


def _changed(number: int) -> InvalidRequest:
    message = f"image {number} of the manifest is not the one of the preview"
    return InvalidRequest("source_changed", message)
