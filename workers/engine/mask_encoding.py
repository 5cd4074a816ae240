"""From a mask to COCO run lengths, its tight box and its area, without pycocotools.

A mask comes as its changes: the sorted positions x * height + y, down the columns, where a pixel
differs from the one before it; before the first pixel all is 0. They are few beside the pixels,
and box, area and run lengths follow from them alone.
"""

from dataclasses import dataclass

import numpy as np

from domain.annotations import Rle
from domain.rle import compress, empty_mask, find_changes
from workers.engine.mask_resizing import Crop


@dataclass(frozen=True, slots=True)
class EncodedMask:
    """`box` is the tight (x, y, width, height) of the set pixels, `area` their count."""

    rle: Rle
    box: tuple[float, float, float, float]
    area: int


def encode(crop: Crop) -> EncodedMask | None:
    """Encode a mask; None where no pixel is set. Only the crop's pixels are walked."""
    size = (crop.height, crop.width)
    changes = find_changes(crop.inside, x=crop.x, y=crop.y, size=size)
    return encode_changes(changes, width=crop.width, height=crop.height)


def encode_changes(changes: np.ndarray, *, width: int, height: int) -> EncodedMask | None:
    """Encode a mask of `height` x `width` given by its changes; None where there are none.

    `changes` are integers, sorted and distinct, in 0 to width * height - 1. The bytes equal those
    of `pycocotools.mask.encode`, box and area those of its `toBbox` and `area`.
    """
    if not len(changes):
        return None
    bounds = np.empty(len(changes) + 2, np.int64)
    bounds[0], bounds[1:-1], bounds[-1] = 0, changes, width * height
    lengths = bounds[1:] - bounds[:-1]
    starts, ends = bounds[1:-1:2], bounds[2::2]
    rle = Rle((height, width), compress(lengths))
    return EncodedMask(rle, _tight_box(starts, ends, height), int(lengths[1::2].sum()))


def empty(width: int, height: int) -> EncodedMask:
    """The mask without a set pixel."""
    return EncodedMask(empty_mask((height, width)), (0.0, 0.0, 0.0, 0.0), 0)


def _tight_box(
    starts: np.ndarray, ends: np.ndarray, height: int
) -> tuple[float, float, float, float]:
    """Of the runs of set pixels from each start to before its end; as rleToBbox in maskApi.c."""
    left, top = np.divmod(starts, height)
    right, bottom = np.divmod(ends - 1, height)
    x, width = float(left[0]), float(right[-1] - left[0] + 1)
    if (left != right).any():  # a run that goes on in the next column sets both edges' rows
        return x, 0.0, width, float(height)
    y = top.min()
    return x, float(y), width, float(bottom.max() - y + 1)
