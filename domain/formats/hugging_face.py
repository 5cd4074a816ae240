"""A dataset repository as huggingface.co hosts it and `datasets.load_dataset` reads it.

Formats: huggingface.co/docs/hub/datasets-manual-configuration (the card), and `Features` and
`DatasetInfo` of datasets 5.2 (features/features.py, info.py).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from domain.exports import (
    ExportCounts,
    ExportInfo,
    ExportSource,
    ShownImage,
    ShownInstance,
    Sink,
)
from domain.formats.addresses import behind
from domain.formats.parquet import Row, parquet_rows
from domain.formats.sharding import batches, files_of, in_files

Feature = dict[str, Any]

_RUN_LENGTHS = pa.struct([("size", pa.list_(pa.int32(), 2)), ("counts", pa.string())])
_OBJECT: list[tuple[str, pa.DataType]] = [
    ("id", pa.int32()),  # counts the image's instances in the result from 0
    ("category", pa.int64()),  # a ClassLabel
    ("score", pa.float64()),
    ("bbox", pa.list_(pa.float32(), 4)),  # x, y, width, height, pixels
    ("area", pa.int64()),  # of the mask, pixels
    ("segmentation", _RUN_LENGTHS),  # COCO's, compressed
]
_IMAGE: list[tuple[str, pa.DataType]] = [
    ("image", pa.string()),
    ("image_index", pa.int64()),
    ("custom_id", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("objects", pa.list_(pa.struct(_OBJECT))),
]
_SCHEMA = pa.schema(_IMAGE)
_DTYPES = {"float": "float32", "double": "float64"}  # where Arrow's own name is another


def write_hugging_face(source: ExportSource, sink: Sink) -> ExportCounts:
    """README.md and data/train-00000-of-0000N.parquet for every IMAGES_PER_FILE images."""
    info = source.info
    features = {field.name: _feature(field, info.classes) for field in _SCHEMA}
    schema = _SCHEMA.with_metadata(
        {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    )
    images = instances = size = 0
    for number, shard in enumerate(in_files(source.shown())):
        name = f"data/train-{number:05}-of-{files_of(info.images):05}.parquet"
        with sink.file(name) as out, parquet_rows(out, schema, info) as write:
            for batch in batches(shard):
                size += write([_row(image, info) for image in batch])
                images += len(batch)
                instances += sum(len(image.instances) for image in batch)
    with sink.file("README.md") as out:
        split = {"name": "train", "num_bytes": size, "num_examples": images}
        out.write(_card(info, features, split).encode())
    return ExportCounts(images, instances)


def _row(image: ShownImage, info: ExportInfo) -> Row:
    return (
        behind(info.options.image_prefix, image.image),
        image.image_index,
        image.custom_id,
        image.width,
        image.height,
        [_object(instance) for instance in image.instances],
    )


def _object(instance: ShownInstance) -> dict[str, Any]:
    return {
        "id": instance.instance,
        "category": instance.class_id,
        "score": instance.score,
        "bbox": instance.box,
        "area": instance.area,
        "segmentation": {"size": instance.mask.size, "counts": instance.mask.counts},
    }


def _feature(field: "pa.Field[Any]", classes: Sequence[str]) -> Feature:
    """As `Features.to_dict` writes it."""
    kind = field.type
    if field.name == "category":
        return {"names": list(classes), "_type": "ClassLabel"}
    if isinstance(kind, pa.StructType):
        return {inner.name: _feature(inner, classes) for inner in kind}
    if isinstance(kind, pa.FixedSizeListType):
        feature = _feature(kind.value_field, classes)
        return {"feature": feature, "length": kind.list_size, "_type": "List"}
    if isinstance(kind, pa.ListType):
        return {"feature": _feature(kind.value_field, classes), "_type": "List"}
    return {"dtype": _DTYPES.get(str(kind), str(kind)), "_type": "Value"}


def _named_in_card(features: Mapping[str, Feature]) -> list[Feature]:
    return [{"name": name, **_in_card(feature)} for name, feature in features.items()]


def _in_card(feature: Feature) -> Feature:
    """As `Features._to_yaml_list` writes it; there, what a feature is must be its first key."""
    match feature:
        case {"_type": "ClassLabel", "names": names}:
            numbered = {str(number): name for number, name in enumerate(names)}
            return {"dtype": {"class_label": {"names": numbered}}}
        case {"_type": "List", "feature": inner, **length}:
            return {"list": _in_card(inner), **length}
        case {"_type": "Value", "dtype": dtype}:
            return {"dtype": dtype}
    return {"struct": _named_in_card(feature)}


def _card(info: ExportInfo, features: Mapping[str, Feature], split: Mapping[str, Any]) -> str:
    metadata = {
        "pretty_name": f"maskmill {info.job_id}",
        "task_categories": ["image-segmentation", "object-detection"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
        "dataset_info": {"features": _named_in_card(features), "splits": [split]},
    }
    lines = "\n".join(f"{key}: {_yaml(value)}" for key, value in metadata.items())
    provenance = info.model_dump_json(indent=2)
    return f"---\n{lines}\n---\n{_TEXT}\n```json\n{provenance}\n```\n"


def _yaml(value: Any) -> str:
    """JSON is YAML but for characters that YAML does not let stand and JSON writes as a pair."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return "".join(c if c.isprintable() or c == "\n" else f"\\U{ord(c):08x}" for c in text)


_TEXT = """
# Instance masks made with maskmill

A row is an image: its address, its size and the objects in it. Masks are COCO's compressed run
lengths, which `pycocotools` reads; boxes are x, y, width, height in pixels.

```python
from datasets import Image, load_dataset
from pycocotools import mask

dataset = load_dataset("path/to/this/folder", split="train")
found = dataset[0]["objects"][0]
pixels = mask.decode(found["segmentation"])  # height x width
dataset = dataset.cast_column("image", Image())  # opens images by their paths or URLs
```

Where it comes from:
"""
