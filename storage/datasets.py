"""Datasets: named groups of uploaded files, or a folder that the operator has linked."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from domain.ids import new_id
from storage.tables import datasets

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
    query = select(*_COLUMNS).where(datasets.c.id == dataset_id)
    if owner_key_id is not None:
        query = query.where(datasets.c.owner_key_id == owner_key_id)
    row = connection.execute(query).one_or_none()
    return Dataset(*row) if row else None


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
