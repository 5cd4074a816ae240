"""Datasets: named groups of uploaded files, or a folder that the operator has linked."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, or_, select

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
    """The dataset, if `owner_key_id` (None: anybody) may see it."""
    return _one(connection, _query(dataset_id, owner_key_id))


def keep_dataset(
    connection: Connection, dataset_id: str, *, owner_key_id: str | None = None
) -> Dataset | None:
    """As `find_dataset`; it is not deleted before the transaction has ended."""
    query = _query(dataset_id, owner_key_id).with_for_update(read=True, key_share=True)
    return _one(connection, query)


def take_dataset(
    connection: Connection, dataset_id: str, *, owner_key_id: str | None = None
) -> Dataset | None:
    """As `find_dataset`; until the transaction has ended no job begins with it."""
    return _one(connection, _query(dataset_id, owner_key_id).with_for_update())


def _query(dataset_id: str, owner_key_id: str | None) -> Select[Any]:
    query = select(*_COLUMNS).where(datasets.c.id == dataset_id)
    return query if owner_key_id is None else query.where(datasets.c.owner_key_id == owner_key_id)


def _one(connection: Connection, query: Select[Any]) -> Dataset | None:
    row = connection.execute(query).one_or_none()
    return Dataset(*row) if row else None


def is_read_from(connection: Connection, dataset_id: str) -> bool:
    """Whether an open job has its images there, or an open evaluation its truth."""
    has_images = select(jobs.c.id).where(
        JOB_IS_OPEN,
        jobs.c.source["type"].astext == "dataset",
        jobs.c.source["id"].astext == dataset_id,
    )
    has_truth = select(exports.c.id).where(
        EXPORT_IS_OPEN, exports.c.options["truth"]["id"].astext == dataset_id
    )
    found = connection.execute(select(or_(has_images.exists(), has_truth.exists())))
    return bool(found.scalar_one())


def forget_dataset(connection: Connection, dataset_id: str) -> None:
    """Jobs go on to name it."""
    connection.execute(delete(datasets).where(datasets.c.id == dataset_id))


def list_datasets(
    connection: Connection, owner_key_id: str, *, after: str, limit: int
) -> list[Dataset]:
    query = (
        select(*_COLUMNS)
        .where(datasets.c.owner_key_id == owner_key_id, datasets.c.id > after)
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
