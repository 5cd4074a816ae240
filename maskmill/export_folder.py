"""An export's files in a folder: checked, unpacked, and gone on with where that was stopped."""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol
from zipfile import ZipFile

from domain.digests import sha256_of
from maskmill.answers import ExportFile, Made, MadeT
from maskmill.connection import ApiError, MaskmillError

STATE = ".maskmill-export.json"  # which export lies here, and which archives are unpacked
LOCK = ".maskmill-export.lock"

ByteProgress = Callable[[int, int], None]
"""Called with (bytes here, bytes in all)."""


class Fetch(Protocol):
    """As `maskmill.connection.Connection.fetch`."""

    def __call__(self, url: str, path: Path, *, on_bytes: Callable[[int], None]) -> None: ...


class DamagedFile(MaskmillError):
    """What came is not what the service wrote."""


class FolderInUse(MaskmillError):
    """Something else lies in the folder, or is on its way there: files must not mix."""


class LinkInFolder(MaskmillError):
    """Something in the folder leads elsewhere: nothing is written through it."""


class NoFiles(MaskmillError):
    """The export has not succeeded, so there is nothing to download."""


def write_export_folder(
    folder: Path,
    look: Callable[[], MadeT],
    fetch: Fetch,
    *,
    unpack: bool = True,
    on_bytes: ByteProgress | None = None,
) -> MadeT:
    """Have all files of the export in `folder`, and return it. Those that are there and have their
    SHA-256 are not fetched again, nor are archives that were unpacked. `look` asks for the export:
    its links expire. Raise `FolderInUse`, `LinkInFolder` and `DamagedFile`."""
    export = look()
    if export.files is None:
        raise NoFiles(f"{export.id} has {export.status}: it has no files")
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder):
        _Folder(folder, export, _State.read(folder, export), look, fetch).write(
            unpack=unpack, report=on_bytes or (lambda _done, _total: None)
        )
    return export


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """By this process alone, until it ends in whatever way."""
    with _no_link(folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUse(f"another export is on its way to {folder}: wait for it") from error
        yield


def _no_link(path: Path) -> Path:
    if path.is_symlink():
        raise LinkInFolder(f"{path} is a link: choose another folder")
    return path


@dataclass(slots=True)
class _State:
    path: Path
    export_id: str
    unpacked: dict[str, str] = field(default_factory=dict)  # SHA-256 of archives by name

    @classmethod
    def read(cls, folder: Path, export: Made) -> "_State":
        """Where there is none yet, no file of the export may be there either: it is another's."""
        path = folder / STATE
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            state = cls(path, str(found["export_id"]), dict(found["unpacked"]))
        except FileNotFoundError:
            _require_none(folder, export.files or ())
            state = cls(path, export.id)
            state.write()
        except (ValueError, KeyError, TypeError) as error:
            raise FolderInUse(f"{path} cannot be read: choose another folder") from error
        if state.export_id != export.id:
            raise FolderInUse(f"{folder} holds {state.export_id}: choose another folder")
        return state

    def write(self) -> None:
        """In one step."""
        content = {"export_id": self.export_id, "unpacked": self.unpacked}
        temporary = _no_link(self.path.with_suffix(".partial"))
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
        temporary.replace(self.path)


def _require_none(folder: Path, files: Iterable[ExportFile]) -> None:
    for path in (folder / file.name for file in files):
        if path.exists():
            raise FolderInUse(f"{path} is there already: choose another folder")


@dataclass(slots=True)
class _Folder:
    folder: Path
    export: Made
    state: _State
    look: Callable[[], Made]
    fetch: Fetch
    _plain_folder: Path | None = None  # that of the file before, mostly

    def write(self, *, unpack: bool, report: ByteProgress) -> None:
        files = self.export.files or []
        done, total = 0, sum(file.bytes for file in files)
        report(0, total)
        for number, file in enumerate(files):
            self._have(number, file, unpack, partial(_report_more, report, done, total))
            done += file.bytes
            report(done, total)

    def _have(
        self, number: int, file: ExportFile, unpack: bool, on_bytes: Callable[[int], None]
    ) -> None:
        if unpack and file.name.endswith(".zip"):
            if self.state.unpacked.get(file.name) != file.sha256:
                self._unpack(file, self._fetched(number, file, on_bytes))
            return
        path = self._path(file.name)
        if not (path.is_file() and _sha256(path) == file.sha256):
            fetched = self._fetched(number, file, on_bytes)
            self._make_folder(path.parent)
            fetched.replace(path)

    def _unpack(self, file: ExportFile, archive: Path) -> None:
        with ZipFile(archive) as zipped:
            for member in zipped.infolist():
                path = self._path(member.filename)
                self._make_folder(path.parent)
                with zipped.open(member) as content, _no_link(path).open("wb") as out:
                    shutil.copyfileobj(content, out)
        self.state.unpacked[file.name] = file.sha256
        self.state.write()
        archive.unlink()

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise DamagedFile(f"{name!r} is no name for a file of an export")
        return self.folder / PurePosixPath(name)

    def _make_folder(self, folder: Path) -> None:
        if folder == self._plain_folder:
            return
        if not folder.resolve().is_relative_to(self.folder.resolve()):
            raise LinkInFolder(f"{folder} leads out of {self.folder}: choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._plain_folder = folder

    def _fetched(self, number: int, file: ExportFile, on_bytes: Callable[[int], None]) -> Path:
        """Named by its content, so that what was fetched of it before is gone on with."""
        path = _no_link(self.folder / f".{file.sha256}.partial")
        if path.exists() and path.stat().st_size >= file.bytes and _sha256(path) != file.sha256:
            path.unlink()
        if not path.exists() or path.stat().st_size < file.bytes:
            self._fetch_with_fresh_link(number, path, on_bytes)
        if _sha256(path) != file.sha256:
            path.unlink()
            raise DamagedFile(f"{file.name} does not have the SHA-256 that the service wrote")
        return path

    def _fetch_with_fresh_link(
        self, number: int, path: Path, on_bytes: Callable[[int], None]
    ) -> None:
        try:
            self.fetch(self._url(number), path, on_bytes=on_bytes)
        except ApiError as error:
            if error.status != 403:
                raise
            self.export = self.look()
            self.fetch(self._url(number), path, on_bytes=on_bytes)

    def _url(self, number: int) -> str:
        assert self.export.files is not None  # what has succeeded keeps its files
        return self.export.files[number].url


def _report_more(report: ByteProgress, before: int, total: int, count: int) -> None:
    report(before + count, total)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return sha256_of(file)
