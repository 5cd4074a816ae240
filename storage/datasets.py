"""Datasets: named groups of uploaded files, or a folder that the operator has linked."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from domain.ids import new_id
from storage.conditions import EXPORT_IS_OPEN, JOB_IS_OPEN
from storage.tables import datasets, exports, jobs

_COLUMNS = (
    datasets.c.id,
    datasets.c.owner_key_id,
    datasets.c.name,
    datasets.c.local_root,
    datasets.c.created_at,
)


@dataclass(frozen=True, slots=True)
class Dataset:
    id: str
    owner_key_id: str
    name: str
    local_root: str | None
    created_at: datetime


def add_dataset(
    connection: Connection, owner_key_id: str, *, name: str, local_root: str | None = None
) -> Dataset:
    values = {
        "id": new_id("ds"),
        "owner_key_id": owner_key_id,
        "name": name,
        "local_root": local_root,
    }
    statement = insert(datasets).values(values).returning(*_COLUMNS)
    return Dataset(*connection.execute(statement).one())


def find_dataset(
    connection: Connection, dataset_id: str, *, owner_key_id: str | None = None
) -> Dataset | None:
    """The dataset, if `owner_key_id` may see it. What is to go its owner sees no more; runs that
    have begun with it (None) read it to their end."""
    row = connection.execute(_query(dataset_id, owner_key_id)).one_or_none()
    return Dataset(*row) if row else None


def keep_dataset(connection: Connection, dataset_id: str, *, owner_key_id: str) -> bool:
    """Whether a job or an evaluation may begin with it. Its deletion waits for the end of the
    transaction, and is then after the beginning."""
    query = _query(dataset_id, owner_key_id).with_for_update(read=True)
    return connection.execute(query).first() is not None


def _query(dataset_id: str, owner_key_id: str | None) -> Select[Any]:
    query = select(*_COLUMNS).where(datasets.c.id == dataset_id)
    if owner_key_id is None:
        return query
    return query.where(datasets.c.owner_key_id == owner_key_id, datasets.c.leaving_at.is_(None))


def dismiss_dataset(
    connection: Connection, dataset_id: str, *, owner_key_id: str | None = None
) -> bool:
    """Have it go, with its files, once nothing reads it any more; False where `owner_key_id`
    (None: anybody) has none of that name. Asked again it changes nothing."""
    statement = update(datasets).where(datasets.c.id == dataset_id)
    if owner_key_id is not None:
        statement = statement.where(datasets.c.owner_key_id == owner_key_id)
    leaving_at = func.coalesce(datasets.c.leaving_at, func.now())
    return connection.execute(statement.values(leaving_at=leaving_at)).rowcount > 0


def unread_datasets(connection: Connection, *, limit: int) -> list[Dataset]:
    """Of those that are to go, which no open job has its images in, and no open evaluation its
    truth."""
    has_images = select(jobs.c.id).where(
        JOB_IS_OPEN,
        jobs.c.source["type"].astext == "dataset",
        jobs.c.source["id"].astext == datasets.c.id,
    )
    has_truth = select(exports.c.id).where(
        EXPORT_IS_OPEN, exports.c.options["truth"]["id"].astext == datasets.c.id
    )
    query = (
        select(*_COLUMNS)
        .where(datasets.c.leaving_at.is_not(None), ~has_images.exists(), ~has_truth.exists())
        .order_by(datasets.c.leaving_at)
        .limit(limit)
    )
    return [Dataset(*row) for row in connection.execute(query)]


def forget_dataset(connection: Connection, dataset_id: str) -> None:
    """Jobs go on to name it."""
    connection.execute(delete(datasets).where(datasets.c.id == dataset_id))


def list_datasets(
    connection: Connection, owner_key_id: str, *, after: str, limit: int
) -> list[Dataset]:
    query = (
        select(*_COLUMNS)
        .where(datasets.c.owner_key_id == owner_key_id, datasets.c.leaving_at.is_(None))
        .where(datasets.c.id > after)
        .order_by(datasets.c.id)
        .limit(limit)
    )
    return [Dataset(*row) for row in connection.execute(query)]


def local_root(connection: Connection, source: dict[str, Any]) -> Path | None:
    """The operator's folder behind a job's source, if that is a linked dataset."""
    if source["type"] != "dataset":
        return None
    dataset = find_dataset(connection, source["id"])
    return Path(dataset.local_root) if dataset and dataset.local_root else None
