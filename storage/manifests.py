"""Manifests: a list of images that a user wrote, read line by line in flat memory.

JSONL carries everything a `ManifestLine` has, and unknown fields are errors. Parquet has the
same as columns (`prompts` as a list of structs or as JSON text), CSV only the image and a
`custom_id`; both come out of other tools, so that their other columns are ignored. Text has one
address a line. The same `custom_id` may occur twice.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError
from pydantic_core import from_json

from domain.documents import ManifestLine
from domain.errors import InvalidRequest

MAX_LINE_BYTES = 2**20
_ROWS_AT_ONCE = 1024
_IMAGE_COLUMNS = ("image", "uri", "url", "file_name")


class ManifestKind(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    TEXT = "text"


_KINDS = {
    ".jsonl": ManifestKind.JSONL,
    ".ndjson": ManifestKind.JSONL,
    ".csv": ManifestKind.CSV,
    ".parquet": ManifestKind.PARQUET,
    ".txt": ManifestKind.TEXT,
}


def manifest_kind(name: str) -> ManifestKind:
    """By the suffix of a path, key or URI; `InvalidRequest` for any other."""
    for suffix, kind in _KINDS.items():
        if name.lower().endswith(suffix):
            return kind
    known = ", ".join(_KINDS)
    raise InvalidRequest("manifest_kind", f"a manifest's name ends in {known}; not {name[-60:]!r}")


def read_manifest(path: Path, *, kind: ManifestKind) -> Iterator[tuple[int, ManifestLine]]:
    """Lines with their numbers from 1 (rows, for Parquet); blank lines are left out.

    A broken line raises `InvalidRequest` ("manifest_invalid") with its number.
    """
    readers = {
        ManifestKind.JSONL: _read_jsonl,
        ManifestKind.CSV: _read_csv,
        ManifestKind.PARQUET: _read_parquet,
        ManifestKind.TEXT: _read_text,
    }
    return readers[kind](path)


def _read_jsonl(path: Path) -> Iterator[tuple[int, ManifestLine]]:
    for number, text in _filled_lines(path):
        with _numbered_errors(number):
            line = ManifestLine.model_validate_json(text.strip())
        yield number, line


def _read_text(path: Path) -> Iterator[tuple[int, ManifestLine]]:
    for number, text in _filled_lines(path):
        yield number, _line(number, {"image": text.strip()})


def _read_csv(path: Path) -> Iterator[tuple[int, ManifestLine]]:
    rows = _csv_rows(path)
    header_number, header = next(rows, (1, []))
    names = [name.strip() for name in header]
    image = _image_column(names, number=header_number)
    if "prompts" in names:
        raise _broken(header_number, "CSV cannot carry prompts; use JSONL or Parquet")
    for number, row in rows:
        if len(row) != len(names):
            raise _broken(number, f"{len(row)} cells, but the header has {len(names)}")
        cells = dict(zip(names, row, strict=True))
        custom_id = cells.get("custom_id") or None
        yield number, _line(number, {"image": cells[image], "custom_id": custom_id})


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line they start on; a quoted cell may span lines."""
    reader = csv.reader((text for _, text in _lines(path)), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise _broken(number, str(error)) from error
        if row is None:
            return
        if any(row):
            yield number, row


def _read_parquet(path: Path) -> Iterator[tuple[int, ManifestLine]]:
    for number, row in enumerate(_parquet_rows(path), start=1):
        yield number, _line(number, row)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:
            names = file.schema_arrow.names
            image = _image_column(names, number=None)
            wanted = [image, *(name for name in ("custom_id", "prompts") if name in names)]
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        message = f"not a readable Parquet file: {error}"
        raise InvalidRequest("manifest_invalid", _shortened(message)) from error


def _image_column(names: Iterable[str], *, number: int | None) -> str:
    for name in _IMAGE_COLUMNS:
        if name in names:
            return name
    found = ", ".join(names) or "none"
    raise _broken(number, f"no column {' or '.join(_IMAGE_COLUMNS)}; found: {found}")


def _line(number: int, fields: Mapping[str, Any]) -> ManifestLine:
    """Nulls are left out: columns have them where JSON leaves a field away."""
    with _numbered_errors(number):
        present = _without_nulls(fields)
        if isinstance(present.get("prompts"), str):
            present["prompts"] = from_json(present["prompts"])
        return ManifestLine.model_validate(present)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(v) for key, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value


def _filled_lines(path: Path) -> Iterator[tuple[int, str]]:
    return ((number, text) for number, text in _lines(path) if text.strip())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Decoded lines with their ends. No line is read further than the limit."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise _broken(number, f"longer than {MAX_LINE_BYTES} bytes")
            yield number, _decoded(line, number=number)


def _decoded(line: bytes, *, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _broken(number, f"not UTF-8 at byte {error.start + 1} of the line") from error


@contextmanager
def _numbered_errors(number: int) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise _broken(number, _first_reason(error)) from error
    except ValueError as error:
        raise _broken(number, f"prompts: {error}") from error


def _first_reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = _shortened(".".join(map(str, first["loc"])), 60)
    reason = "unknown field" if first["type"] == "extra_forbidden" else first["msg"]
    reason = reason.removeprefix("Value error, ").replace("at line 1 column", "at column")
    return f"{field}: {reason}" if field else reason


def _broken(number: int | None, message: str) -> InvalidRequest:
    return InvalidRequest("manifest_invalid", _shortened(message), line=number)


def _shortened(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
