"""A COCO annotation's segmentation as a mask: polygons, or run lengths, compressed or not."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

from domain.annotations import Rle
from domain.rle import compress, run_lengths

Size = tuple[int, int]  # height, width

_LONGEST_OUTLINE = 2**22  # pixels: 400 MB while it is drawn

# Characters of 5 bits, of which those from P on are followed by another: lengths below 2**34.
_COMPRESSED = re.compile(r"(?:[P-o]{0,6}[0-O])+")


class BadMask(ValueError):
    """Not a mask of the image. Its message goes on after "annotation 5 "."""


def mask_of(segmentation: Any, size: Size) -> tuple[Rle, int]:
    """And its area in pixels. Raise BadMask."""
    if not segmentation:
        raise BadMask("has no mask: masks are compared, boxes alone are not enough")
    if isinstance(segmentation, dict):
        return _from_run_lengths(segmentation, size)
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, size)
    raise BadMask("has a segmentation that is neither polygons nor run lengths")


def _from_polygons(polygons: Sequence[Any], size: Size) -> tuple[Rle, int]:
    """As pycocotools draws them, together. It takes memory along the outline before it cuts off
    what lies outside of the image."""
    height, width = size
    outline = 0.0
    for polygon in polygons:
        points = _points(polygon)
        outline += np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
        if (np.abs(points - (width / 2, height / 2)) > (1.5 * width, 1.5 * height)).any():
            raise BadMask("has a polygon far outside of its image")
    if outline > _LONGEST_OUTLINE:
        raise BadMask(f"has an outline of more than {_LONGEST_OUTLINE:,} pixels")
    drawn = coco.merge(coco.frPyObjects(list(polygons), height, width))
    return _canonical(run_lengths(drawn["counts"]), size)


def _points(polygon: Any) -> np.ndarray:
    coordinates = _numbers(polygon, kinds="iuf")
    if coordinates is None or len(coordinates) % 2 or not np.isfinite(coordinates).all():
        raise BadMask("has a polygon that is not a list of x, y, x, y, ...")
    if len(coordinates) < 6:
        raise BadMask("has a polygon of less than 3 points")
    return coordinates.reshape(-1, 2)


def _from_run_lengths(segmentation: dict[str, Any], size: Size) -> tuple[Rle, int]:
    stated, counts = segmentation.get("size"), segmentation.get("counts")
    if stated != list(size):
        height, width = size
        raise BadMask(
            f"has run lengths of size {stated}, but its image is {[height, width]} (height, width)"
        )
    if isinstance(counts, str):
        return _canonical(_decompressed(counts), size)
    lengths = _numbers(counts, kinds="iu")
    if lengths is None:
        raise BadMask("has run lengths that are neither text nor a list of whole numbers")
    return _canonical(lengths.astype(np.int64), size)


def _numbers(values: Any, *, kinds: str) -> np.ndarray | None:
    """None for what is not a plain list of numbers."""
    try:
        numbers = np.asarray(values)
    except (ValueError, OverflowError):
        return None
    return numbers if numbers.ndim == 1 and numbers.dtype.kind in kinds else None


def _decompressed(counts: str) -> np.ndarray:
    if not _COMPRESSED.fullmatch(counts):
        raise BadMask("has compressed run lengths that cannot be read")
    return run_lengths(counts.encode())


def _canonical(lengths: np.ndarray, size: Size) -> tuple[Rle, int]:
    """Without runs of no length, except for a first one: pycocotools stops at two that meet."""
    pixels = size[0] * size[1]
    ends = np.cumsum(lengths)
    if (lengths < 0).any() or not len(ends) or ends[-1] != pixels:
        raise BadMask(f"has run lengths that do not fill the {pixels} pixels of its image")
    places, times = np.unique(ends[:-1], return_counts=True)
    changes = places[(times % 2 == 1) & (places < pixels)]
    runs = np.diff(changes, prepend=0, append=pixels)
    return Rle(size, compress(runs)), int(runs[1::2].sum())
