"""Committed slices are the result; all others own parts that nobody will read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Double, and_, cast, func, select, tuple_

from storage.conditions import (
    SHARD_IS_OPEN,
    SLICE_HAS_FAILURES,
    SLICE_IS_COMMITTED,
    SLICE_IS_LOOSE,
)
from storage.tables import shards, slices


@dataclass(frozen=True, slots=True)
class Slice:
    shard_number: int
    start: int
    count: int
    failed: int
    first_image_index: int
    annotations_key: str
    images_key: str
    parts: dict[str, Any]


_COLUMNS = tuple(slices.c[name] for name in Slice.__dataclass_fields__)
_ORDER = (slices.c.shard_number, slices.c.start)


def committed_slices(
    connection: Connection, job_id: str, *, after: tuple[int, int] = (-1, -1), limit: int
) -> list[Slice]:
    """A page in image order; `after` is (shard_number, start) of the last slice seen."""
    query = (
        select(*_COLUMNS)
        .where(slices.c.job_id == job_id, SLICE_IS_COMMITTED, tuple_(*_ORDER) > after)
        .order_by(*_ORDER)
        .limit(limit)
    )
    return [Slice(*row) for row in connection.execute(query)]


def slices_from(
    connection: Connection, job_id: str, image_index: int, *, before: int = 2**62, limit: int
) -> list[Slice]:
    """Committed slices in image order: from the one that holds an image, or the next one, up to
    those that begin at image `before`."""
    first = (
        select(func.max(slices.c.first_image_index))
        .where(slices.c.job_id == job_id, SLICE_IS_COMMITTED)
        .where(slices.c.first_image_index <= image_index)
        .scalar_subquery()
    )
    query = (
        select(*_COLUMNS)
        .where(slices.c.job_id == job_id, SLICE_IS_COMMITTED)
        .where(slices.c.first_image_index >= func.coalesce(first, 0))
        .where(slices.c.first_image_index < before)
        .order_by(slices.c.first_image_index)
        .limit(limit)
    )
    return [Slice(*row) for row in connection.execute(query)]


def slices_with_failures(
    connection: Connection, job_id: str, *, from_index: int, limit: int
) -> list[Slice]:
    """Slices with failed images whose last image is `from_index` or later, in image order."""
    query = (
        select(*_COLUMNS)
        .where(slices.c.job_id == job_id, SLICE_HAS_FAILURES)
        .where(slices.c.first_image_index + slices.c.count > from_index)
        .order_by(slices.c.first_image_index)
        .limit(limit)
    )
    return [Slice(*row) for row in connection.execute(query)]


def failures_of_shard(connection: Connection, job_id: str, shard_number: int) -> list[Slice]:
    """The shard's slices with failed images, in image order."""
    query = (
        select(*_COLUMNS)
        .where(slices.c.job_id == job_id, slices.c.shard_number == shard_number)
        .where(SLICE_HAS_FAILURES)
        .order_by(slices.c.start)
    )
    return [Slice(*row) for row in connection.execute(query)]


def slice_of_image(connection: Connection, job_id: str, image_index: int) -> Slice | None:
    """The committed slice that holds an image; None while the image has no outcome."""
    query = (
        select(*_COLUMNS)
        .where(slices.c.job_id == job_id, SLICE_IS_COMMITTED)
        .where(slices.c.first_image_index <= image_index)
        .order_by(slices.c.first_image_index.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None or row.first_image_index + row.count <= image_index:
        return None
    return Slice(*row)


def keys_of_all_slices(connection: Connection, job_id: str) -> list[str]:
    """Of every part that may lie in the store, committed or not."""
    query = select(slices.c.annotations_key, slices.c.images_key).where(slices.c.job_id == job_id)
    return [key for row in connection.execute(query) for key in row]


def keys_of_shards(connection: Connection, job_id: str, numbers: Iterable[int]) -> set[str]:
    """As keys_of_all_slices, of some shards."""
    query = select(slices.c.annotations_key, slices.c.images_key).where(
        slices.c.job_id == job_id, slices.c.shard_number.in_(list(numbers))
    )
    return {key for row in connection.execute(query) for key in row}


def all_committed_slices(
    connection: Connection, job_id: str, *, before_shard: int | None = None
) -> Iterator[Slice]:
    """In image order; of the shards before one, or of all."""
    query = select(*_COLUMNS).where(slices.c.job_id == job_id, SLICE_IS_COMMITTED).order_by(*_ORDER)
    if before_shard is not None:
        query = query.where(slices.c.shard_number < before_shard)
    for row in connection.execution_options(yield_per=1000).execute(query):
        yield Slice(*row)


@dataclass(frozen=True, slots=True)
class TimedSlice:
    """When a committed slice was opened and committed, in seconds of the database's clock; the
    shard and the token of its lease name its run."""

    images: int
    shard_number: int
    token: int
    opened: float
    committed: float


def timed_slices(connection: Connection, job_id: str, *, before_shard: int) -> list[TimedSlice]:
    """Of the shards before one, in the order in which they were committed."""
    opened, committed = (
        cast(func.extract("epoch", column), Double)
        for column in (slices.c.created_at, slices.c.committed_at)
    )
    query = (
        select(slices.c.count, slices.c.shard_number, slices.c.token, opened, committed)
        .where(slices.c.job_id == job_id, SLICE_IS_COMMITTED, slices.c.shard_number < before_shard)
        .order_by(slices.c.committed_at)
    )
    return [TimedSlice(*row) for row in connection.execute(query)]


def result_grew_at(connection: Connection, job_id: str) -> datetime | None:
    """When the last slice was committed; None before the first."""
    query = select(func.max(slices.c.committed_at)).where(slices.c.job_id == job_id)
    grew_at: datetime | None = connection.execute(query).scalar_one()
    return grew_at


def committed_count(connection: Connection, job_id: str) -> int:
    query = select(func.count()).where(slices.c.job_id == job_id, SLICE_IS_COMMITTED)
    return connection.execute(query).scalar_one()


def item_categories(connection: Connection, job_id: str) -> list[str]:
    """Classes that items' own prompts have named so far, in any order."""
    names = func.jsonb_array_elements_text(slices.c.parts["item_categories"])
    query = select(names).distinct().where(slices.c.job_id == job_id, SLICE_IS_COMMITTED)
    return list(connection.execute(query).scalars())


@dataclass(frozen=True, slots=True)
class LooseSlice:
    """A slice whose runner is gone and whose shard has ended: its parts are to be deleted."""

    job_id: str
    shard_number: int
    start: int
    token: int
    annotations_key: str
    images_key: str


def loose_slices(
    connection: Connection, *, skipping: frozenset[str] = frozenset(), limit: int = 500
) -> list[LooseSlice]:
    """The oldest, but for those of some jobs."""
    columns = tuple(slices.c[name] for name in LooseSlice.__dataclass_fields__)
    query = (
        select(*columns)
        .join(
            shards,
            and_(shards.c.job_id == slices.c.job_id, shards.c.number == slices.c.shard_number),
        )
        .where(SLICE_IS_LOOSE, ~SHARD_IS_OPEN, slices.c.job_id.not_in(skipping))
        .order_by(slices.c.created_at)
        .limit(limit)
    )
    return [LooseSlice(*row) for row in connection.execute(query)]


def forget_slices(connection: Connection, loose: Sequence[LooseSlice]) -> None:
    key = (slices.c.job_id, slices.c.shard_number, slices.c.start, slices.c.token)
    values = [(s.job_id, s.shard_number, s.start, s.token) for s in loose]
    connection.execute(slices.delete().where(tuple_(*key).in_(values)))
