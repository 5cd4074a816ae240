"""Where a writer leaves its files: temporary ones here, then objects in the result's store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from domain.digests import sha256_of
from storage import object_keys
from storage.export_runs import ExportLease
from storage.object_store import OCTET_STREAM, ObjectStore

_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".zip": "application/zip",
}


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """`key` is relative to the results root."""

    name: str
    key: str
    sha256: str
    bytes: int


@dataclass(slots=True)
class StoreSink:
    """A `domain.exports.Sink`. `require_wanted` is asked before anything is stored and raises
    where the run shall stop; `note` is called while bytes go."""

    store: ObjectStore
    folder: Path
    lease: ExportLease
    require_wanted: Callable[[], None]
    note: Callable[[], None]
    files: list[WrittenFile] = field(default_factory=list)
    _begun: set[str] = field(default_factory=set)

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        key = object_keys.export_file(self.lease.export_id, name, token=self.lease.token)
        if name in self._begun:
            raise ValueError(f"{name!r} is written twice")
        self._begun.add(name)
        path = self.folder / f"{len(self._begun):08d}"
        try:
            with path.open("w+b") as file:
                yield file
            self._store(name, key, path)
        finally:
            path.unlink(missing_ok=True)

    def _store(self, name: str, key: str, path: Path) -> None:
        sha256 = self._sha256(path)
        self.require_wanted()
        content_type = _CONTENT_TYPES.get(Path(name).suffix, OCTET_STREAM)
        self.store.put_file(
            key, path, content_type=content_type, on_bytes=lambda _count: self.note()
        )
        self.files.append(WrittenFile(name, key, sha256, path.stat().st_size))

    def _sha256(self, path: Path) -> str:
        """Read again: a writer may have gone back in it."""
        with path.open("rb") as file:
            return sha256_of(file, note=self.note)
