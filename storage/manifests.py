"""Manifests: a list of images that a user wrote, read line by line in flat memory.

JSONL carries everything a `ManifestLine` has, and unknown fields are errors. Parquet has the
same as columns (`prompts` as a list of structs or as JSON text), CSV only the image and a
`custom_id`; both come out of other tools, so that their other columns are ignored. Text has one
address a line. The same `custom_id` may occur twice.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError
from pydantic_core import from_json

from domain.documents import ManifestLine
from domain.errors import InvalidRequest

MAX_LINE_BYTES = 2**20
# Parquet says little in few bytes: what rows unfold to is bounded before they unfold.
_ROWS_AT_ONCE, _ROWS_WITH_PROMPTS_AT_ONCE = 1024, 64
_MAX_UNFOLDED_BYTES = 2 * _ROWS_WITH_PROMPTS_AT_ONCE * MAX_LINE_BYTES
_MAX_ROW_GROUP_BYTES = 2**30
_MAX_FIXED_BYTES = 32  # of a number or UUID: text does not have fixed-length bytes
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
    """Bytes that are a good line need not be looked at twice; all others get the long look."""
    for number, data in _raw_lines(path):
        try:
            line: ManifestLine | None = ManifestLine.model_validate_json(data.strip())
        except ValidationError:
            line = _json_line(number, _decoded(data, number=number).strip())
        if line is not None:
            yield number, line


def _json_line(number: int, text: str) -> ManifestLine | None:
    try:
        return ManifestLine.model_validate_json(text) if text else None
    except ValueError as error:
        raise _invalid(number, error) from error


def _read_text(path: Path) -> Iterator[tuple[int, ManifestLine]]:
    for number, text in _lines(path):
        if image := text.strip():
            yield number, _line(number, {"image": image})


def _read_csv(path: Path) -> Iterator[tuple[int, ManifestLine]]:
    rows = _csv_rows(path)
    header_number, header = next(rows, (1, []))
    names = [name.strip() for name in header]
    image = _image_column(names, number=header_number)
    if "prompts" in names:
        raise _broken(header_number, "CSV cannot carry prompts; use JSONL or Parquet")
    places = {name: place for place, name in enumerate(names)}  # the last of the same name
    image_place, custom_id_place = places[image], places.get("custom_id")
    for number, row in rows:
        if len(row) != len(names):
            raise _broken(number, f"{len(row)} cells, but the header has {len(names)}")
        fields = {"image": row[image_place]}
        if custom_id_place is not None and (custom_id := row[custom_id_place]):
            fields["custom_id"] = custom_id
        yield number, _line(number, fields)


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
    number = 0
    for batch in _parquet_batches(path):
        for fields in _rows(batch, first_number=number + 1):
            number += 1
            yield number, _line(number, fields)


def _parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        with path.open("rb") as opened:
            metadata = pq.read_metadata(opened)
            names = metadata.schema.to_arrow_schema().names
            image = _image_column(names, number=None)
            wanted = [image, *(name for name in ("custom_id", "prompts") if name in names)]
            texts = _text_leaves(metadata, wanted)
            rows = _ROWS_WITH_PROMPTS_AT_ONCE if "prompts" in wanted else _ROWS_AT_ONCE
            with pq.ParquetFile(opened, metadata=metadata, read_dictionary=texts) as file:
                number = 1
                for batch in file.iter_batches(batch_size=rows, columns=wanted):
                    _check_unfolded(batch, number=number)
                    yield batch
                    number += batch.num_rows
    except InvalidRequest:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _broken(None, f"not a readable Parquet file: {error}") from error


def _text_leaves(metadata: pq.FileMetaData, wanted: Sequence[str]) -> list[str]:
    """Paths of the wanted columns, to be read as dictionaries, so that a long value of many rows
    is there once; after a check of what the file says of their sizes."""
    columns = [metadata.schema.column(number) for number in range(metadata.num_columns)]
    leaves = {n: c for n, c in enumerate(columns) if c.path.partition(".")[0] in wanted}
    for column in leaves.values():
        if (column.length or 0) > _MAX_FIXED_BYTES:
            raise _broken(None, f"{column.path}: fixed-length bytes are not text")
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        chunks = [group.column(number) for number in leaves]
        if sum(c.total_uncompressed_size + 8 * c.num_values for c in chunks) > _MAX_ROW_GROUP_BYTES:
            raise _broken(None, f"a row group of over {_MAX_ROW_GROUP_BYTES} bytes")
    return [column.path for column in leaves.values()]


def _check_unfolded(batch: pa.RecordBatch, *, number: int) -> None:
    if sum(map(_unfolded_bytes, batch.columns)) > _MAX_UNFOLDED_BYTES:
        last = number + batch.num_rows - 1
        raise _broken(None, f"rows {number} to {last}: over {_MAX_UNFOLDED_BYTES} bytes together")


def _unfolded_bytes(array: "pa.Array[Any]") -> int:
    """About what the values take as Python's objects."""
    own = 64 * len(array)
    if isinstance(array, pa.DictionaryArray):
        lengths = pc.binary_length(cast(pa.StringArray, array.dictionary)).take(array.indices)
        return own + int(pc.sum(lengths).as_py() or 0)
    if isinstance(array, pa.StructArray):
        return own + sum(map(_unfolded_bytes, array.flatten()))
    if isinstance(array, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
        return own + _unfolded_bytes(array.flatten())
    return own + int(array.nbytes)


def _rows(batch: pa.RecordBatch, *, first_number: int) -> Iterator[dict[str, Any]]:
    """Without nulls: columns have them where JSON leaves a field away.

    Texts are taken column by column, which is five times as quick; row by row where one of them
    is broken, to say which, and where a row may be large.
    """
    names = batch.schema.names
    if "prompts" not in names:
        try:
            columns = [_texts(column) for column in batch.columns]
        except (pa.ArrowException, ValueError, ArithmeticError):
            pass
        else:
            for values in zip(*columns, strict=True):
                yield {n: v for n, v in zip(names, values, strict=True) if v is not None}
            return
    for position in range(batch.num_rows):
        yield _without_nulls(_row(batch, position, number=first_number + position))


def _texts(column: "pa.Array[Any]") -> list[Any]:
    """Its dictionary grows through a row group, so that only what the rows refer to is unfolded."""
    plain = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
    return plain.to_pylist()


def _row(batch: pa.RecordBatch, position: int, *, number: int) -> dict[str, Any]:
    try:
        values = [column[position].as_py() for column in batch.columns]
    except (pa.ArrowException, ValueError, ArithmeticError) as error:
        raise _broken(number, f"not a readable value: {error}") from error
    return dict(zip(batch.schema.names, values, strict=True))


def _image_column(names: Iterable[str], *, number: int | None) -> str:
    for name in _IMAGE_COLUMNS:
        if name in names:
            return name
    found = ", ".join(names) or "none"
    raise _broken(number, f"no column {' or '.join(_IMAGE_COLUMNS)}; found: {found}")


def _line(number: int, fields: dict[str, Any]) -> ManifestLine:
    try:
        if isinstance(fields.get("prompts"), str):
            fields["prompts"] = from_json(fields["prompts"])
        return ManifestLine.model_validate(fields)
    except ValueError as error:
        raise _invalid(number, error) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(v) for key, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Decoded lines with their ends."""
    return ((number, _decoded(line, number=number)) for number, line in _raw_lines(path))


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """No line is read further than the limit."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise _broken(number, f"longer than {MAX_LINE_BYTES} bytes")
            yield number, line


def _decoded(line: bytes, *, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _broken(number, f"not UTF-8 at byte {error.start + 1} of the line") from error


def _invalid(number: int, error: ValueError) -> InvalidRequest:
    if isinstance(error, ValidationError):
        return _broken(number, _first_reason(error))
    return _broken(number, f"prompts: {error}")


def _first_reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = _shortened(".".join(map(str, first["loc"])), 60)
    reason = "unknown field" if first["type"] == "extra_forbidden" else first["msg"]
    reason = reason.removeprefix("Value error, ").replace("at line 1 column", "at column")
    return f"{field}: {reason}" if field else reason


def _broken(number: int | None, message: str) -> InvalidRequest:
    return InvalidRequest("manifest_invalid", _shortened(_visible(message)), line=number)


def _visible(text: str) -> str:
    """Messages quote names from the file, which must not steer the terminal that shows them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _shortened(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
