"""Where the images of an export are to lie, for formats that find labels by the images' paths."""

import csv
import io
import re
import unicodedata
from collections.abc import Callable
from hashlib import blake2b

import numpy as np

from domain.exports import ShownImage

LIST_COLUMNS = ("image", "custom_id", "path")

_LONGEST_NAME = 200  # bytes; file systems allow 255, suffixes are exchanged
_LONGEST_PATH = 700  # bytes; macOS allows 1,024 with all folders above
_MERGED_AT = 65_536
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/+")
_UNSAFE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
_RENAMED = "renamed"


def local_path(reference: str) -> str:
    """The path below a folder at which an image with this reference is looked for.

    A relative path stays as it is. Of an address the scheme goes, and of a web address what
    follows `?` or `#`; `..` becomes `_up`; what an unpacker could take for a separator, control
    characters and ends of lines become `_`. Different references may give the same path.
    """
    if reference.startswith(("http://", "https://")):
        reference = re.split(r"[?#]", reference, maxsplit=1)[0]
    parts = _SCHEME.sub("", reference).split("/")
    return "/".join(_name(part) for part in parts if part not in ("", ".")) or "_"


def _name(part: str) -> str:
    """Its end, which has the suffix, where it is too long for a file's name."""
    safe = "_up" if part == ".." else _UNSAFE.sub("_", part)
    return safe.encode()[-_LONGEST_NAME:].decode(errors="ignore")


class ImagePaths:
    """Gives every image a path such that no two images share a label, and that all images and
    labels can lie on one disk.

    `label_of` is the reader's rule for the label of an image at a path. The first image with a
    label keeps the path that `local_path` says, later ones get `renamed/INDEX/NAME`; so do images
    below a folder that may be another one's file, and those whose path is too long. Labels that
    differ in case only count as one, for file systems that think so. Call it in image order, once
    an image.
    """

    def __init__(self, label_of: Callable[[str], str]) -> None:
        self._label_of = label_of
        self._files, self._folders = _SeenNames(), _SeenNames()
        self._last_folder = ""  # which most images share with the one before

    def place(self, image: ShownImage) -> str:
        path = local_path(image.image)
        if self._takes(path):
            return path
        return f"{_RENAMED}/{image.image_index}/{path.rsplit('/', 1)[-1]}"

    def _takes(self, path: str) -> bool:
        if path.split("/", 1)[0].casefold() == _RENAMED or len(path.encode()) > _LONGEST_PATH:
            return False
        files, folders = self._files_of(path), self._new_folders(path)
        if any(map(self._is_taken, files)) or any(name in self._files for name in folders):
            return False
        for name in files:
            self._files.add(name)
        for name in folders:
            self._folders.add(name)
        self._last_folder = path.rpartition("/")[0]
        return True

    def _is_taken(self, name: str) -> bool:
        return name in self._files or name in self._folders

    def _files_of(self, path: str) -> list[str]:
        """What stands for the image, and for all that has its name with another suffix."""
        label = self._label_of(path)
        return [label] if _has_suffix(path) else [label, f"/{path}"]

    def _new_folders(self, path: str) -> list[str]:
        """In the same terms: a folder `a.txt` cannot be beside the label of `a.jpg`."""
        folder = path.rpartition("/")[0]
        if folder == self._last_folder:
            return []
        parts = folder.split("/")
        folders = ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        return [self._label_of(name) if _has_suffix(name) else f"/{name}" for name in folders]


def _has_suffix(path: str) -> bool:
    return "." in path.rpartition("/")[2]


class ImageList:
    """A CSV file of where the images of an archive are to lie, as `LIST_COLUMNS`."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        self._rows = csv.writer(self._text)  # its ends of lines are what is quoted in names, too
        self._rows.writerow(LIST_COLUMNS)

    def append(self, image: ShownImage, path: str) -> None:
        self._rows.writerow((image.image, image.custom_id, path))

    def content(self) -> bytes:
        return self._text.getvalue().encode()


class _SeenNames:
    """Names by 64 bits of their hash: 8 bytes each, 80 MB for ten million. Of so many, two share
    these bits by chance once in 370,000 exports; then the later one is renamed without need."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, np.uint64)
        self._recent: set[int] = set()

    def __contains__(self, name: str) -> bool:
        key = _key(name)
        return key in self._recent or self._is_sorted_in(key)

    def add(self, name: str) -> None:
        if name in self:
            return
        self._recent.add(_key(name))
        if len(self._recent) == _MERGED_AT:
            self._sort_in()

    def _is_sorted_in(self, key: int) -> bool:
        place = int(np.searchsorted(self._sorted, np.uint64(key)))
        return place < len(self._sorted) and int(self._sorted[place]) == key

    def _sort_in(self) -> None:
        recent = np.fromiter(self._recent, np.uint64, len(self._recent))
        self._sorted = np.concatenate([self._sorted, recent])
        self._sorted.sort(kind="stable")
        self._recent.clear()


def _key(name: str) -> int:
    folded = unicodedata.normalize("NFC", name).casefold()
    return int.from_bytes(blake2b(folded.encode(), digest_size=8).digest())
