"""Datasets hold what was uploaded under their prefix of the store; nothing is unpacked."""

import time
from itertools import islice

from sqlalchemy import Connection

from api.context import Context
from api.datasets.schemas import DatasetDocument, DatasetPage
from api.documents import PageRequest, cursor_of
from api.problems import ApiProblem, not_found
from storage import datasets
from storage.datasets import Dataset
from storage.keys import ApiKey
from storage.object_keys import dataset_prefix

_FILES_AT_ONCE = 1000  # one request to S3
_SECONDS_AT_ONCE = 20.0


def create(context: Context, caller: ApiKey, name: str) -> DatasetDocument:
    with context.database.begin() as connection:
        return document(datasets.add_dataset(connection, caller.id, name=name))


def find(context: Context, dataset_id: str, caller: ApiKey) -> Dataset:
    with context.database.begin() as connection:
        dataset = datasets.find_dataset(connection, dataset_id, owner_key_id=caller.id)
    if dataset is None:
        raise not_found("dataset")
    return dataset


def list_page(context: Context, caller: ApiKey, page: PageRequest) -> DatasetPage:
    after = page.after(str)
    with context.database.begin() as connection:
        found = datasets.list_datasets(
            connection, caller.id, after=after[0] if after else "", limit=page.limit + 1
        )
    shown = found[: page.limit]
    return DatasetPage(
        data=[document(dataset) for dataset in shown],
        next_cursor=cursor_of(shown[-1].id) if len(found) > page.limit else None,
    )


def check_takes_uploads(dataset: Dataset) -> None:
    if dataset.local_root is not None:
        raise ApiProblem(
            409, "dataset_is_linked", "This dataset is a folder of the operator's; it is read only."
        )


def delete(context: Context, dataset_id: str, caller: ApiKey) -> bool:
    """False where so many files are left that another request has to go on.

    The files go first, so that a dataset is known as long as it has any, and a request that was cut
    off is only sent again. Those that were uploaded meanwhile go last.
    """
    with context.database.begin() as connection:
        dataset = _unused(connection, dataset_id, caller)
    if not _without_files(context, dataset):
        return False
    with context.database.begin() as connection:
        _unused(connection, dataset_id, caller)
        datasets.forget_dataset(connection, dataset_id)
    _without_files(context, dataset)
    return True


def _unused(connection: Connection, dataset_id: str, caller: ApiKey) -> Dataset:
    owner = None if caller.is_admin else caller.id
    dataset = datasets.take_dataset(connection, dataset_id, owner_key_id=owner)
    if dataset is None:
        raise not_found("dataset")
    if datasets.is_read_from(connection, dataset_id):
        detail = "A job or an evaluation still reads it: wait until it has ended, or cancel it."
        raise ApiProblem(409, "dataset_in_use", detail)
    return dataset


def _without_files(context: Context, dataset: Dataset) -> bool:
    """False where some are left after a while. A linked folder is the operator's, and stays."""
    if dataset.local_root is not None:
        return True
    deadline = time.monotonic() + _SECONDS_AT_ONCE
    keys = (info.key for info in context.store.list(dataset_prefix(dataset.id)))
    while page := list(islice(keys, _FILES_AT_ONCE)):
        context.store.delete(page)
        if time.monotonic() > deadline:
            return False
    return True


def keep_upload(context: Context, dataset: Dataset, key: str) -> None:
    """A dataset that was deleted meanwhile has no files."""
    with context.database.begin() as connection:
        is_there = datasets.find_dataset(connection, dataset.id) is not None
    if not is_there:
        context.store.delete([key])
        raise not_found("dataset")


def document(dataset: Dataset) -> DatasetDocument:
    return DatasetDocument(
        id=dataset.id,
        name=dataset.name,
        linked=dataset.local_root is not None,
        created_at=dataset.created_at,
    )
