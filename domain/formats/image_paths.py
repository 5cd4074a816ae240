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
    """Gives every image a path such that no two images share a label.

    `label_of` is the reader's rule for the label of an image at a path. The first image with a
    label keeps the path that `local_path` says, later ones get `renamed/INDEX/NAME`. Labels that
    differ in case only count as one, for file systems that think so. Call it in image order, once
    an image; `rows` lists what was said.
    """

    def __init__(self, label_of: Callable[[str], str]) -> None:
        self._label_of = label_of
        self._labels = _SeenNames()

    def place(self, image: ShownImage) -> str:
        path = local_path(image.image)
        folder = path.split("/", 1)[0].casefold()
        if folder != _RENAMED and self._labels.add(self._label_of(path)):
            return path
        return f"{_RENAMED}/{image.image_index}/{path.rsplit('/', 1)[-1]}"


class ImageList:
    """A CSV file of where the images of an archive are to lie, as `LIST_COLUMNS`."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        self._rows = csv.writer(self._text, lineterminator="\n")
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

    def add(self, name: str) -> bool:
        """Whether it is new."""
        key = _key(name)
        if key in self._recent or self._is_sorted_in(key):
            return False
        self._recent.add(key)
        if len(self._recent) == _MERGED_AT:
            self._sort_in()
        return True

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
