"""The parts of a slice some of whose images were labelled again."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Parts = tuple[bytes, bytes]
"""The annotations part and the images part of a slice."""


def merged_parts(old: Parts, new: Parts) -> Parts:
    """`old` with the images that `new` has too as they are there. All other rows are copied, in
    image order; the provenance in the files is that of `new`."""
    again = _table(new[1])["image_index"]
    annotations, images = (
        _merged(_table(before), _table(after), again=again)
        for before, after in zip(old, new, strict=True)
    )
    return annotations, images


def _table(part: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(part))


def _merged(old: pa.Table, new: pa.Table, *, again: "pa.ChunkedArray[Any]") -> bytes:
    kept = old.filter(pc.invert(pc.is_in(old["image_index"], value_set=again)))
    kept = kept.select(new.column_names).cast(new.schema)
    rows = pa.concat_tables([kept, new]).unify_dictionaries().combine_chunks()
    keys = ["image_index", "instance"] if "instance" in rows.column_names else ["image_index"]
    ordered = rows.sort_by([(key, "ascending") for key in keys])
    out = io.BytesIO()
    pq.write_table(ordered.replace_schema_metadata(new.schema.metadata), out, compression="zstd")
    return out.getvalue()
