"""Ground truth to compare a result with: an uploaded file, or an object that jobs may read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection

from domain.digests import sha256_of
from domain.errors import InvalidRequest
from storage.datasets import find_dataset
from storage.local_store import LocalStore
from storage.object_keys import dataset_file
from storage.object_store import ObjectNotFound, ObjectStore
from storage.sources import Sources

MAX_TRUTH_BYTES = 512 * 2**20  # its masks are held in memory: 3 bytes for each of these at most


def truth_place(
    connection: Connection, truth: dict[str, Any], *, own: ObjectStore, sources: Sources
) -> tuple[ObjectStore, str]:
    """The store and the key. `truth` is `{"type": "object", "uri"}` or `{"type": "dataset", "id",
    "path"}`; that the dataset is the caller's has been checked. Raises `InvalidRequest`."""
    if truth["type"] == "object":
        sources.check_source(truth["uri"])
        return sources.store_for(truth["uri"])
    key = dataset_file(truth["id"], truth["path"])
    dataset = find_dataset(connection, truth["id"])
    if dataset is not None and dataset.local_root is not None:
        return LocalStore(Path(dataset.local_root)), truth["path"]
    return own, key


@contextmanager
def opened_truth(place: tuple[ObjectStore, str]) -> Iterator[BinaryIO]:
    """Raises `InvalidRequest` where there is none, or too much of it."""
    store, key = place
    try:
        if store.size(key) > MAX_TRUTH_BYTES:
            most = MAX_TRUTH_BYTES // 2**20
            raise InvalidRequest("truth_too_large", f"the truth has more than {most} MiB")
        with store.open(key) as file:
            yield file
    except ObjectNotFound as error:
        raise InvalidRequest("truth_not_found", f"there is no such truth: {error}") from error


def truth_sha256(file: BinaryIO, *, note: Callable[[], None] = lambda: None) -> str:
    """Leaves the file at its begin."""
    sha256 = sha256_of(file, note=note)
    file.seek(0)
    return sha256
