"""What a manifest file on this machine names, so that it can be uploaded with its images.

Broken lines are passed over: the service reads the manifest itself and reports them by number.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from maskmill.connection import MaskmillError

_IMAGE_FIELDS = ("image", "uri", "url", "file_name")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class ManifestError(MaskmillError):
    """The manifest names files that cannot be uploaded with it."""


def local_images(manifest: Path) -> list[str]:
    """Files it names by relative path, those that exist, in order; addresses are left out.

    Raise `ManifestError` for one outside of the manifest's folder.
    """
    names = dict.fromkeys(_plain(name) for name in _references(manifest) if _is_path(name))
    return [name for name in names if (manifest.parent / name).is_file()]


def _is_path(reference: str) -> bool:
    return bool(reference) and not _ADDRESS.match(reference)


def _plain(reference: str) -> str:
    path = PurePosixPath(reference)
    if path.is_absolute() or ".." in path.parts:
        raise ManifestError(
            f"the manifest names {reference!r}: only files in its own folder are uploaded"
        )
    return str(path)


def _references(manifest: Path) -> Iterator[str]:
    readers = {".csv": _from_csv, ".parquet": _from_parquet, ".txt": _from_text}
    read = readers.get(manifest.suffix.lower(), _from_jsonl)
    return (name.strip() for name in read(manifest) if isinstance(name, str))


def _from_jsonl(manifest: Path) -> Iterator[Any]:
    with manifest.open(encoding="utf-8-sig", errors="replace") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict):
                yield from (entry[name] for name in _IMAGE_FIELDS if name in entry)


def _from_csv(manifest: Path) -> Iterator[Any]:
    with manifest.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            yield from (row[name] for name in _IMAGE_FIELDS if name in row)


def _from_text(manifest: Path) -> Iterator[Any]:
    with manifest.open(encoding="utf-8-sig", errors="replace") as lines:
        yield from lines


def _from_parquet(manifest: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(manifest) as file:
            column = next((n for n in _IMAGE_FIELDS if n in file.schema_arrow.names), None)
            for batch in file.iter_batches(columns=[column]) if column else ():
                yield from batch.column(0).to_pylist()
    except pa.ArrowException:
        return
