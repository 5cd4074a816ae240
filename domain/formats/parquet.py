"""The result's own tables (`domain.results`), as a view shows them.

The threshold of an instance is the one that the view took, so that every row counts for whoever
applies thresholds once more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from domain.exports import ExportCounts, ExportInfo, ExportSource, ShownImage, Sink
from domain.formats.sharding import batches, in_files
from domain.results import IMAGE_SCHEMA, INSTANCE_SCHEMA, Provenance, provenance_metadata

Row = tuple[Any, ...]


def write_parquet(source: ExportSource, sink: Sink) -> ExportCounts:
    """annotations-00000.parquet and images-00000.parquet for every IMAGES_PER_FILE images."""
    image_count = instance_count = 0
    for number, images in enumerate(in_files(source.shown())):
        with (
            sink.file(f"annotations-{number:05}.parquet") as annotations_out,
            sink.file(f"images-{number:05}.parquet") as images_out,
            parquet_rows(annotations_out, INSTANCE_SCHEMA, source.info) as write_annotations,
            parquet_rows(images_out, IMAGE_SCHEMA, source.info) as write_images,
        ):
            for batch in batches(images):
                rows = list(_instance_rows(batch, source.info.classes))
                if rows:
                    write_annotations(rows)
                write_images([_image_row(image) for image in batch])
                image_count += len(batch)
                instance_count += len(rows)
    return ExportCounts(image_count, instance_count)


def export_metadata(info: ExportInfo) -> dict[bytes, bytes]:
    """A part's provenance, and all that is known of the export as `maskmill.export`."""
    provenance = Provenance(info.job_id, info.model, info.weights_sha256, info.code_version)
    return provenance_metadata(provenance) | {b"maskmill.export": info.model_dump_json().encode()}


@contextmanager
def parquet_rows(
    out: BinaryIO, schema: pa.Schema, info: ExportInfo
) -> Iterator[Callable[[Sequence[Row]], int]]:
    """What writes a row group of rows in the order of the schema, and returns its bytes in
    memory."""
    schema = schema.with_metadata((schema.metadata or {}) | export_metadata(info))

    def write(rows: Sequence[Row]) -> int:
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, f.type) for column, f in zip(columns, schema, strict=True)]
        table = pa.Table.from_arrays(arrays, schema=schema)
        writer.write_table(table)
        return table.nbytes

    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        yield write


def _instance_rows(images: Iterable[ShownImage], classes: Sequence[str]) -> Iterator[Row]:
    """In the order of INSTANCE_SCHEMA."""
    for image in images:
        for shown in image.instances:
            yield (
                image.image_index,
                image.image,
                image.custom_id,
                shown.instance,
                shown.prompt_index,
                classes[shown.class_id],
                shown.score,
                shown.threshold,
                *shown.box,
                shown.area,
                *shown.mask.size,
                shown.mask.counts,
            )


def _image_row(image: ShownImage) -> Row:
    """In the order of IMAGE_SCHEMA."""
    return (
        image.image_index,
        image.image,
        image.custom_id,
        "succeeded",
        None,
        None,
        image.width,
        image.height,
        image.orientation,
        len(image.instances),
        image.saturated_prompts,
        image.milliseconds,
    )
