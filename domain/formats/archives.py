"""ZIP archives: the same bytes whenever they are written, and safe to unpack anywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from domain.exports import ExportInfo, Sink

_FIRST_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP archive can say
_UNIX = 3
_PLAIN_FILE = 0o100644 << 16


class UnsafeName(ValueError):
    """A name that would leave the folder into which the archive is unpacked."""


class Archive:
    """Takes whole files. More than 65,535 of them, or 4 GiB, make it a ZIP64 archive."""

    def __init__(self, zipped: ZipFile) -> None:
        self._zipped = zipped

    def add(self, name: str, content: bytes, *, compressed: bool = True) -> None:
        """`compressed` for what is not compressed yet."""
        _check(name)
        entry = ZipInfo(name, _FIRST_TIME)
        entry.create_system, entry.external_attr = _UNIX, _PLAIN_FILE
        entry.compress_type = ZIP_DEFLATED if compressed else ZIP_STORED
        self._zipped.writestr(entry, content)


@contextmanager
def archive(sink: Sink, name: str, info: ExportInfo) -> Iterator[Archive]:
    """The archive `name`, which also says where it comes from, in a file that no other archive of
    the export has: all are unpacked into one folder."""
    with sink.file(name) as out, ZipFile(out, "w") as zipped:
        opened = Archive(zipped)
        opened.add(note_of(name, ".json"), info.model_dump_json(indent=2).encode() + b"\n")
        yield opened


def note_of(archive_name: str, suffix: str) -> str:
    """`maskmill/labels-00000.json`, say: what an archive tells about itself."""
    return "maskmill/" + PurePosixPath(archive_name).stem + suffix


def _check(name: str) -> None:
    parts = name.split("/")
    if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise UnsafeName(f"{name!r} is no name for a file in an archive")
