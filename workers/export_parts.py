"""A result's parts, out of its store: checked as they come, the next ones fetched meanwhile."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from domain.digests import sha256_of
from domain.result_manifest import ResultFile, ResultPart, read_parts
from storage.object_store import ObjectNotFound, ObjectStore

_PARTS_AHEAD = 3  # of some hundred kilobytes as a rule, in files where they are large

Opened = tuple[BinaryIO, ExitStack]


class DamagedResult(Exception):
    """A part is missing, or is not what was written."""


class StoredParts:
    """`listed` is a file that `manifest_pieces` wrote. `note` is called while bytes come. Use it in
    a `with`; one reader at a time."""

    def __init__(self, store: ObjectStore, listed: Path, *, note: Callable[[], None]) -> None:
        self._store = store
        self._listed = listed
        self._note = note
        self._pool = ThreadPoolExecutor(2 * (_PARTS_AHEAD + 1), thread_name_prefix="export parts")
        self._coming: dict[str, Future[Opened]] = {}

    def __enter__(self) -> "StoredParts":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._forget_coming()

    def parts(self) -> Iterator[ResultPart]:
        """From the first; those of an earlier call are no longer fetched."""
        self._forget_coming()
        with self._listed.open("rb") as file:
            listed = _readable_parts(file)
            ahead = [self._begun(part) for part in islice(listed, _PARTS_AHEAD)]
            while ahead:
                ahead += [self._begun(part) for part in islice(listed, 1)]
                yield ahead.pop(0)

    def _begun(self, part: ResultPart) -> ResultPart:
        for file in (part.images, part.annotations):
            self._coming[file.key] = self._pool.submit(self._fetched, file)
        return part

    def open_part(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Of a part that `parts` gave last. Raises `DamagedResult`, and `StoreError`s."""
        return _closing(self._coming.pop(key).result())

    def _fetched(self, file: ResultFile) -> Opened:
        with ExitStack() as stack:
            opened = stack.enter_context(_found(self._store, file.key))
            self._check(opened, file)
            opened.seek(0)
            return opened, stack.pop_all()

    def _check(self, opened: BinaryIO, file: ResultFile) -> None:
        sha256 = sha256_of(opened, note=self._note)
        if (opened.tell(), sha256) != (file.bytes, file.sha256):
            raise DamagedResult(f"{file.key} is not what was written there: it has changed since")

    def _forget_coming(self) -> None:
        coming, self._coming = self._coming, {}
        for one in coming.values():
            if not one.cancel() and one.exception() is None:
                one.result()[1].close()


def _readable_parts(file: BinaryIO) -> Iterator[ResultPart]:
    try:
        yield from read_parts(file)
    except ValueError as error:
        raise DamagedResult(f"the manifest cannot be read: {error}") from error


@contextmanager
def _closing(opened: Opened) -> Iterator[BinaryIO]:
    file, stack = opened
    with stack:
        yield file


@contextmanager
def _found(store: ObjectStore, key: str) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(store.open(key))
        except ObjectNotFound as error:
            raise DamagedResult(f"{key} is no longer there") from error
        yield file
