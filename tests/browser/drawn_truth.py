"""What was drawn into scenes, as COCO instances."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Drawn = Iterable[tuple[str, np.ndarray]]
"""Names of categories, with masks."""


def as_coco(
    images: Mapping[str, Drawn], *, size: tuple[int, int], names: Mapping[str, str]
) -> dict[str, Any]:
    """`size` is the width and height of each image. What has no name among `names` is left out."""
    width, height = size
    categories = [{"id": n, "name": name} for n, name in enumerate(names.values(), start=1)]
    ids = dict(zip(names, range(1, len(names) + 1), strict=True))
    found = [
        (image_id, ids[name], coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))
        for image_id, drawn in enumerate(images.values())
        for name, mask in drawn
        if name in ids and mask.any()
    ]
    return {
        "images": [
            {"id": n, "file_name": name, "width": width, "height": height}
            for n, name in enumerate(images)
        ],
        "categories": categories,
        "annotations": [_annotation(n, *one) for n, one in enumerate(found, start=1)],
    }


def _annotation(number: int, image_id: int, category_id: int, rle: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        "area": int(coco_mask.area(rle)),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "iscrowd": 0,
    }
