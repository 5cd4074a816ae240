"""Removes datasets that are to go, with their files, once nothing reads them any more."""

import structlog

from storage.database import Database
from storage.datasets import Dataset, forget_dataset, unread_datasets
from storage.object_keys import dataset_prefix
from storage.object_store import open_store
from storage.settings import Settings

log = structlog.get_logger()

_DATASETS_AT_ONCE = 10


class DatasetTidying:
    """Doing it twice changes nothing. The row goes last: a dataset is on record while it has
    files."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._store = open_store(settings.object_store, settings=settings)

    def tidy_some(self) -> None:
        with self._database.begin() as connection:
            leaving = unread_datasets(connection, limit=_DATASETS_AT_ONCE)
        for dataset in leaving:
            self._remove_files(dataset)
            with self._database.begin() as connection:
                forget_dataset(connection, dataset.id)
            log.info("dataset.deleted", dataset_id=dataset.id)

    def _remove_files(self, dataset: Dataset) -> None:
        """A linked folder is the operator's, and stays."""
        if dataset.local_root is None:
            listed = self._store.list(dataset_prefix(dataset.id))
            self._store.delete(info.key for info in listed)
