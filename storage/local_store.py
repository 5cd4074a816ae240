"""Objects in a folder: the embedded default, and a linked folder of images (read only)."""
# ruff: noqa: ARG002  (a folder knows no content types and no links)

import errno
import os
import stat
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from storage.object_store import (
    OCTET_STREAM,
    ObjectForbidden,
    ObjectInfo,
    ObjectNotFound,
    ObjectTooLarge,
    OnBytes,
    StoreError,
    StoreUnavailable,
)
from storage.reading import Reading

_PARTIAL_SUFFIX = ".maskmill-partial"
_NOT_FOUND = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# Whatever takes a checked file's place, opening it neither follows a link nor waits.
_OPEN_CHECKED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class LocalStore:
    """`root` is absolute and free of links; a key's file is `root/key`.

    No key leads out of the root, neither by its name nor through a link. Listing does not
    follow links to folders. Unlike on S3, `a` and `a/b` cannot both be objects.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.resolve())

    @classmethod
    def create(cls, root: Path) -> "LocalStore":
        root.mkdir(parents=True, exist_ok=True)
        return cls(root)

    def get(
        self, key: str, *, max_bytes: int | None = None, reading: Reading | None = None
    ) -> bytes:
        with self.open(key) as file:
            size = os.fstat(file.fileno()).st_size
            if max_bytes is not None and size > max_bytes:
                raise ObjectTooLarge(f"{key} has {size} bytes")
            if reading is not None:
                reading.expect(size)
            with _typed_errors(key):
                return file.read(size)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with _typed_errors(key):
            file = self._open(key)
        with file:
            yield file

    def put(self, key: str, data: bytes, *, content_type: str = OCTET_STREAM) -> None:
        self._write(key, BytesIO(data))

    def put_file(
        self,
        key: str,
        path: Path,
        *,
        content_type: str = OCTET_STREAM,
        on_bytes: OnBytes | None = None,
    ) -> None:
        with path.open("rb") as file:
            self._write(key, file, on_bytes=on_bytes)

    def list(self, prefix: str = "", *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        """Memory holds the names of one folder at a time (and of those above it)."""
        folder = prefix.rpartition("/")[0]
        base = f"{folder}/" if folder else ""
        path = self._path(folder) if folder else self.root
        return self._walk(path, base, prefix=prefix, after=_order(start_after or ""))

    def _walk(self, folder: Path, base: str, *, prefix: str, after: bytes) -> Iterator[ObjectInfo]:
        with _typed_errors(base):
            names = _sorted_names(folder)
        for name in names:
            key = base + name
            if not key.startswith(prefix):
                continue
            path = folder / name
            if not name.endswith("/"):
                if _order(key) > after:
                    yield ObjectInfo(_printable(key), _size_or_zero(path))
            elif _order(key) > after or after.startswith(_order(key)):
                yield from self._walk(path, key, prefix=prefix, after=after)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with suppress(ObjectNotFound), _typed_errors(key):
                self._own_path(key).unlink()

    def size(self, key: str) -> int:
        with _typed_errors(key):
            return self._regular_file(key).stat().st_size

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except ObjectNotFound:
            return False
        return True

    def presign(self, key: str, *, expires_seconds: int, filename: str | None = None) -> None:
        return None

    def _open(self, key: str) -> BinaryIO:
        """Checks what it opened once more: others may have exchanged a folder or the file."""
        descriptor = os.open(self._regular_file(key), _OPEN_CHECKED)
        try:
            _check_plain(os.fstat(descriptor), key)
            if sys.platform == "linux":
                self._inside(Path(f"/proc/self/fd/{descriptor}").readlink(), key)
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise

    def _regular_file(self, key: str) -> Path:
        """Links followed. Only plain files count: opening others may wait or do something."""
        path = self._path(key)
        _check_plain(path.stat(), key)
        return path

    def _path(self, key: str) -> Path:
        """The file behind all links; it need not exist."""
        return self._inside(Path(os.path.realpath(self.root.joinpath(*_parts(key)))), key)

    def _own_path(self, key: str) -> Path:
        """As `_path`, but a link at the very end is meant itself: for writing and deleting."""
        *folders, name = _parts(key)
        return self._inside(Path(os.path.realpath(self.root.joinpath(*folders))), key) / name

    def _inside(self, path: Path, key: str) -> Path:
        if not path.is_relative_to(self.root):
            raise ObjectForbidden(f"{key}: leads out of the folder")
        return path

    def _write(self, key: str, source: BinaryIO, *, on_bytes: OnBytes | None = None) -> None:
        with _typed_errors(key):
            path = self._own_path(key)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _replace_durably(path, source, on_bytes=on_bytes)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise ObjectForbidden(f"{key}: another object's name is in the way") from error


def _check_plain(status: os.stat_result, key: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ObjectNotFound(f"{key}: is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise ObjectForbidden(f"{key}: not a plain file")


def _replace_durably(path: Path, source: BinaryIO, *, on_bytes: OnBytes | None = None) -> None:
    """The database may refer to the object right after this, so it has to survive a power cut."""
    partial = path.with_name(f".{uuid.uuid4().hex}{_PARTIAL_SUFFIX}")
    try:
        with partial.open("xb") as file:
            while chunk := source.read(2**20):
                file.write(chunk)
                if on_bytes:
                    on_bytes(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parts(key: str) -> list[str]:
    parts = key.split("/")
    if "\0" in key or any(part in {"", ".", ".."} for part in parts):
        raise ObjectForbidden(f"{key!r}: not a key of a folder store")
    return parts


def _sorted_names(folder: Path) -> list[str]:
    """Names in the order that their keys have in a flat listing: folders as `name/`."""
    try:
        with os.scandir(folder) as entries:
            names = [
                f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                for entry in entries
                if not entry.name.endswith(_PARTIAL_SUFFIX) and not _is_linked_folder(entry)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(names, key=_order)


def _is_linked_folder(entry: "os.DirEntry[str]") -> bool:
    with suppress(OSError):  # a link in a circle
        return entry.is_symlink() and entry.is_dir()
    return False


def _printable(key: str) -> str:
    """Names that are not UTF-8 are listed with U+FFFD in them: no such object will be found, so
    that the image is reported instead of breaking the JSON and the database it passes through."""
    return os.fsencode(key).decode("utf-8", "replace")


def _order(key: str) -> bytes:
    return _printable(key).encode()


def _size_or_zero(path: Path) -> int:
    """0 for a file that is gone since, and for a link to nothing."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextmanager
def _typed_errors(key: str) -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        raise ObjectNotFound(f"{key!r}: not a file name") from error
    except OSError as error:
        kind: type[StoreError] = StoreUnavailable
        if error.errno in _NOT_FOUND:
            kind = ObjectNotFound
        elif error.errno in _FORBIDDEN:
            kind = ObjectForbidden
        raise kind(f"{key}: {error.strerror}") from error
