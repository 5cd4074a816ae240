"""Writes the Parquet parts, which are the canonical result. `domain.results` has the columns."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from domain.annotations import ImageOutcome
from domain.items import Item
from domain.prompts import Prompt
from domain.results import (
    IMAGE_SCHEMA,
    INSTANCE_SCHEMA,
    Provenance,
    image_columns,
    image_row,
    instance_columns,
    instance_rows,
    provenance_metadata,
)


def write_parts(
    rows: Sequence[tuple[Item, ImageOutcome]],
    *,
    job_prompts: Sequence[Prompt],
    provenance: Provenance,
) -> tuple[bytes, bytes]:
    """The annotations part and the images part of a slice, rows in image order.

    `job_prompts` give the thresholds of the instances whose prompt is not the item's own.
    """
    ordered = sorted(rows, key=lambda row: row[0].index)
    images = [image_columns(image_row(item, outcome)) for item, outcome in ordered]
    instances = [
        instance_columns(row)
        for item, outcome in ordered
        for row in instance_rows(item, outcome.instances, job_prompts=job_prompts)
    ]
    metadata = provenance_metadata(provenance)
    return (
        _to_parquet(instances, INSTANCE_SCHEMA.with_metadata(metadata)),
        _to_parquet(images, IMAGE_SCHEMA.with_metadata(metadata)),
    )


def _to_parquet(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), out, compression="zstd")
    return out.getvalue()
