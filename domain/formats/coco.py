"""COCO instance annotations (cocodataset.org/#format-data), written as a stream."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from domain.results import ImageRow, InstanceRow


@dataclass(frozen=True, slots=True)
class CocoCounts:
    images: int
    annotations: int


def write_coco(
    out: TextIO,
    *,
    images: Iterable[ImageRow],
    instances: Iterable[InstanceRow],
    categories: Sequence[str],
    info: Mapping[str, Any],
) -> CocoCounts:
    """Write one COCO document; `images`, then `instances`, are read once and never gathered.

    Images that failed are left out, images without instances are not. Category ids count from
    1 in the order given, image ids are `image_index + 1`, annotation ids count from 1. All of
    `instances` are written; `domain.results.above_threshold` chooses them. Raise `ValueError`
    for an instance whose category is not in `categories`.
    """
    category_ids = {name: number for number, name in enumerate(categories, start=1)}
    named = ({"id": n, "name": name, "supercategory": "object"} for name, n in category_ids.items())
    out.write(f'{{\n"info": {_json(info)},\n"licenses": [],\n"categories": ')
    _write_list(out, named)
    out.write(',\n"images": ')
    image_count = _write_list(out, (_image(row) for row in images if row.succeeded))
    out.write(',\n"annotations": ')
    annotation_count = _write_list(
        out, (_annotation(row, n, category_ids) for n, row in enumerate(instances, start=1))
    )
    out.write("\n}\n")
    return CocoCounts(image_count, annotation_count)


def _write_list(out: TextIO, entries: Iterable[Mapping[str, Any]]) -> int:
    """One entry a line; return how many."""
    count = 0
    out.write("[")
    for entry in entries:
        out.write(",\n" if count else "\n")
        out.write(_json(entry))
        count += 1
    out.write("]")
    return count


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _image(row: ImageRow) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": row.image_index + 1,
        "file_name": row.image,
        "width": row.width,
        "height": row.height,
    }
    if row.custom_id is not None:
        entry["custom_id"] = row.custom_id
    return entry


def _annotation(row: InstanceRow, number: int, category_ids: Mapping[str, int]) -> dict[str, Any]:
    if row.category not in category_ids:
        raise ValueError(f"category {row.category!r} of {row.image!r} is not in the list")
    return {
        "id": number,
        "image_id": row.image_index + 1,
        "category_id": category_ids[row.category],
        "segmentation": {"size": list(row.mask.size), "counts": row.mask.counts.decode("ascii")},
        "area": row.area,
        "bbox": list(row.box),
        "iscrowd": 0,
        "score": row.score,
        "prompt_index": row.prompt_index,
    }
