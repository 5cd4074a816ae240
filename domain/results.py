"""The rows of a job's result and the Parquet columns that hold them.

A slice of a job is a pair of Parquet parts: one row per instance, one row per image.
Pixels are those of the oriented image (EXIF orientation applied), origin top left.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from domain.annotations import Rle
from domain.errors import ImageErrorCode
from domain.thresholds import effective_threshold, reaches

Part = bytes | BinaryIO
ImageStatus = Literal["succeeded", "failed"]

_ROWS_PER_READ = 512  # a row may hold many kilobytes of run lengths
_METADATA_PREFIX = b"maskmill."
_BOX_COLUMNS = ("box_x", "box_y", "box_width", "box_height")


def _required(name: str, kind: pa.DataType) -> "pa.Field[Any]":
    return pa.field(name, kind, nullable=False)


INSTANCE_SCHEMA = pa.schema(
    [
        _required("image_index", pa.int64()),  # counts the job's images from 0
        _required("image", pa.string()),  # as the user wrote it
        pa.field("custom_id", pa.string()),
        _required("instance", pa.int32()),  # counts the image's instances from 0
        _required("prompt_index", pa.int32()),  # job's prompts from 0, then the item's own
        _required("category", pa.dictionary(pa.int32(), pa.string())),
        _required("score", pa.float32()),  # 0 to 1
        pa.field("threshold", pa.float64()),  # the prompt's own, as the user wrote it
        _required("box_x", pa.float32()),  # of the mask, left edge, pixels
        _required("box_y", pa.float32()),  # of the mask, top edge, pixels
        _required("box_width", pa.float32()),  # pixels
        _required("box_height", pa.float32()),  # pixels
        _required("area", pa.int64()),  # of the mask, pixels
        _required("rle_height", pa.int32()),  # pixels
        _required("rle_width", pa.int32()),  # pixels
        _required("rle_counts", pa.string()),  # COCO's compressed run lengths, column by column
    ]
)

IMAGE_SCHEMA = pa.schema(
    [
        _required("image_index", pa.int64()),
        _required("image", pa.string()),
        pa.field("custom_id", pa.string()),
        _required("status", pa.string()),  # succeeded or failed
        pa.field("error_code", pa.string()),  # an ImageErrorCode
        pa.field("error_message", pa.string()),
        _required("width", pa.int32()),  # pixels, 0 where the image could not be read so far
        _required("height", pa.int32()),  # pixels
        _required("orientation", pa.int32()),  # EXIF tag as found, 1 to 8
        _required("instances", pa.int32()),  # rows of this image in the other part
        _required("saturated_prompts", pa.list_(pa.int32())),  # prompt indexes
        _required("milliseconds", pa.float32()),  # of work spent on this image
    ]
)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a part comes from; kept in the Parquet file's own metadata."""

    job_id: str
    model: str
    weights_sha256: str
    code_version: str


@dataclass(frozen=True, slots=True)
class ImageRow:
    image_index: int
    image: str
    custom_id: str | None
    status: ImageStatus
    error_code: ImageErrorCode | None
    error_message: str | None
    width: int
    height: int
    orientation: int
    instances: int
    saturated_prompts: tuple[int, ...]
    milliseconds: float

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """`box` is (x, y, width, height); `threshold` is the prompt's own, None where it has none."""

    image_index: int
    image: str
    custom_id: str | None
    instance: int
    prompt_index: int
    category: str
    score: float
    threshold: float | None
    box: tuple[float, float, float, float]
    area: int
    mask: Rle


def above_threshold(
    rows: Iterable[InstanceRow], *, min_score: float | None = None
) -> Iterator[InstanceRow]:
    """The instances that count: by `min_score` where given, else by their prompts' thresholds."""
    for row in rows:
        if reaches(row.score, effective_threshold(row.threshold, min_score)):
            yield row


def _to_image_row(columns: dict[str, Any]) -> ImageRow:
    code = columns["error_code"]
    columns["error_code"] = None if code is None else ImageErrorCode(code)
    columns["saturated_prompts"] = tuple(columns["saturated_prompts"])
    return ImageRow(**columns)


def _instance_rows(batch: pa.RecordBatch) -> Iterator[InstanceRow]:
    """Column by column: with a dictionary for each row it takes twice as long."""
    values: dict[str, Iterable[Any]] = {
        name: _values(batch.column(name)) for name in INSTANCE_SCHEMA.names
    }
    sizes = zip(values["rle_height"], values["rle_width"], strict=True)
    values["mask"] = map(Rle, sizes, map(str.encode, values["rle_counts"]))
    values["box"] = zip(*(values[name] for name in _BOX_COLUMNS), strict=True)
    values["score"] = _values(_shortest(batch.column("score")))
    return map(InstanceRow, *(values[name] for name in InstanceRow.__dataclass_fields__))


def _values(column: "pa.Array[Any]") -> list[Any]:
    if isinstance(column, pa.DictionaryArray):
        names = column.dictionary.to_pylist()
        return [names[place] for place in _values(column.indices)]
    if column.null_count or pa.types.is_string(column.type):
        return column.to_pylist()
    numbers: list[Any] = column.to_numpy().tolist()
    return numbers


def _shortest(scores: "pa.Array[Any]") -> "pa.Array[Any]":
    """0.7 for the 32-bit 0.699999988079071: what is shown as 0.7 must not be below 0.7."""
    return scores.cast(pa.string()).cast(pa.float64())


def iter_images(part: Part) -> Iterator[ImageRow]:
    """The rows of an images part, in image order."""
    batches = _batches(part, IMAGE_SCHEMA)
    return (_to_image_row(columns) for batch in batches for columns in batch.to_pylist())


def instances_among(part: Part, image_indexes: Iterable[int]) -> Iterator[InstanceRow]:
    """Those of some images, as `iter_instances` gives all."""
    wanted = pa.array(sorted(image_indexes), pa.int64())
    for batch in _batches(part, INSTANCE_SCHEMA):
        is_wanted = pc.is_in(batch.column("image_index"), value_set=wanted)
        yield from _instance_rows(batch.filter(is_wanted))


def score_ranges(part: Part) -> dict[int, tuple[float, float]]:
    """The lowest and the highest score of each image that has instances."""
    table = pq.read_table(_open(part), columns=["image_index", "score"])
    ranges = table.group_by("image_index").aggregate([("score", "min"), ("score", "max")])
    columns = [ranges[name].combine_chunks() for name in ("score_min", "score_max")]
    lows, highs = (_values(_shortest(column)) for column in columns)
    numbers = _values(ranges["image_index"].combine_chunks())
    return dict(zip(numbers, zip(lows, highs, strict=True), strict=True))


def iter_instances(part: Part) -> Iterator[InstanceRow]:
    """The rows of an annotations part, in image order; a few hundred in memory at a time."""
    return chain.from_iterable(map(_instance_rows, _batches(part, INSTANCE_SCHEMA)))


def instances_of(part: Part, image_index: int) -> list[InstanceRow]:
    """One image's instances, out of an annotations part."""
    table = pq.read_table(
        _open(part),
        columns=INSTANCE_SCHEMA.names,
        filters=[("image_index", "==", image_index)],
    )
    return [row for batch in table.to_batches() for row in _instance_rows(batch)]


def read_provenance(part: Part) -> Provenance:
    metadata = pq.ParquetFile(_open(part)).metadata.metadata or {}
    names = Provenance.__dataclass_fields__
    return Provenance(
        **{name: metadata[_METADATA_PREFIX + name.encode()].decode() for name in names}
    )


def provenance_metadata(provenance: Provenance) -> dict[bytes, bytes]:
    return {
        _METADATA_PREFIX + name.encode(): value.encode()
        for name, value in asdict(provenance).items()
    }


def _open(part: Part) -> Any:
    return pa.BufferReader(part) if isinstance(part, bytes) else part


def _batches(part: Part, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Columns that a later version added are left out; a missing one is a `ValueError`."""
    file = pq.ParquetFile(_open(part))
    missing = set(schema.names) - set(file.schema_arrow.names)
    if missing:
        raise ValueError(f"not a result part: no column {', '.join(sorted(missing))}")
    return file.iter_batches(batch_size=_ROWS_PER_READ, columns=schema.names)
