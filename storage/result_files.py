"""Writes the Parquet parts, which are the canonical result. `domain.results` has the columns."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from domain.annotations import ImageOutcome
from domain.items import Item
from domain.prompts import Prompt
from domain.results import IMAGE_SCHEMA, INSTANCE_SCHEMA, Provenance, provenance_metadata
from domain.thresholds import own_threshold

Row = tuple[Any, ...]


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
    instances = list(_instance_rows(ordered, job_prompts=job_prompts))
    images = [_image_row(item, outcome) for item, outcome in ordered]
    metadata = provenance_metadata(provenance)
    return (
        _to_parquet(instances, INSTANCE_SCHEMA.with_metadata(metadata)),
        _to_parquet(images, IMAGE_SCHEMA.with_metadata(metadata)),
    )


def _instance_rows(
    ordered: Sequence[tuple[Item, ImageOutcome]], *, job_prompts: Sequence[Prompt]
) -> Iterator[Row]:
    """In the order of INSTANCE_SCHEMA. Plain tuples, turned over into columns: a dictionary for
    each instance is what took longest of all that a worker does beside the network."""
    of_the_job = [own_threshold(prompt) for prompt in job_prompts]
    for item, outcome in ordered:
        thresholds = of_the_job
        if item.prompts:
            thresholds = [*of_the_job, *map(own_threshold, item.prompts)]
        for number, found in enumerate(outcome.instances):
            yield (
                item.index,
                item.image,
                item.custom_id,
                number,
                found.prompt_index,
                found.category,
                found.score,
                thresholds[found.prompt_index],
                *found.box,
                found.area,
                *found.mask.size,
                found.mask.counts,
            )


def _image_row(item: Item, outcome: ImageOutcome) -> Row:
    """In the order of IMAGE_SCHEMA."""
    return (
        item.index,
        item.image,
        item.custom_id,
        "succeeded" if outcome.succeeded else "failed",
        outcome.error_code,
        outcome.error_message,
        outcome.width,
        outcome.height,
        outcome.orientation,
        len(outcome.instances),
        outcome.saturated_prompts,
        outcome.milliseconds,
    )


def _to_parquet(rows: Sequence[Row], schema: pa.Schema) -> bytes:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(v, type=field.type) for v, field in zip(columns, schema, strict=True)]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), out, compression="zstd")
    return out.getvalue()
