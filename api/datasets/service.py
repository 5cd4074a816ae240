"""Datasets hold what was uploaded under their prefix of the store; nothing is unpacked."""

from sqlalchemy import Connection

from api.context import Context
from api.datasets.schemas import DatasetDocument, DatasetPage
from api.documents import PageRequest, cursor_of
from api.problems import ApiProblem, not_found
from storage import datasets
from storage.datasets import Dataset
from storage.keys import ApiKey


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


def delete(context: Context, dataset_id: str, caller: ApiKey) -> None:
    owner = None if caller.is_admin else caller.id
    with context.database.begin() as connection:
        is_known = datasets.dismiss_dataset(connection, dataset_id, owner_key_id=owner)
    if not is_known:
        raise not_found("dataset")


def keep(connection: Connection, dataset_id: str, caller: ApiKey) -> None:
    """For a job or an evaluation that begins with it in this transaction."""
    if not datasets.keep_dataset(connection, dataset_id, owner_key_id=caller.id):
        raise ApiProblem(422, "dataset_not_found", "There is no such dataset, or it is not yours.")


def keep_upload(context: Context, dataset_id: str, caller: ApiKey, *, key: str) -> None:
    """Of a dataset that was deleted meanwhile the files may be gone already, so this one goes."""
    try:
        find(context, dataset_id, caller)
    except ApiProblem:
        context.store.delete([key])
        raise


def document(dataset: Dataset) -> DatasetDocument:
    return DatasetDocument(
        id=dataset.id,
        name=dataset.name,
        linked=dataset.local_root is not None,
        created_at=dataset.created_at,
    )
