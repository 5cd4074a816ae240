"""From a mask to COCO run lengths, its tight box and its area. The only user of pycocotools."""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from domain.annotations import Rle
from workers.engine.mask_resizing import Crop


@dataclass(frozen=True, slots=True)
class EncodedMask:
    """`box` is the tight (x, y, width, height) of the set pixels, `area` their count."""

    rle: Rle
    box: tuple[float, float, float, float]
    area: int


def encode(crop: Crop) -> EncodedMask | None:
    """Encode a mask; None where no pixel is set.

    The bytes equal `pycocotools.mask.encode` of the whole mask in column order. Only the box
    around the object is walked: pycocotools walks the whole image, and wants a copy of it in
    column order first (0.6 against 10 ms for an object of 600 x 600 in 12 MP).
    """
    columns = np.flatnonzero(crop.inside.any(axis=0))
    if not len(columns):
        return None
    rows = np.flatnonzero(crop.inside.any(axis=1))
    tight = crop.inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    x, y = crop.x + int(columns[0]), crop.y + int(rows[0])
    counts = _run_lengths(tight, x=x, y=y, width=crop.width, height=crop.height)
    size = (crop.height, crop.width)
    packed = coco_mask.frPyObjects({"size": list(size), "counts": counts.tolist()}, *size)
    box = (float(x), float(y), float(tight.shape[1]), float(tight.shape[0]))
    return EncodedMask(Rle(size, packed["counts"]), box, int(counts[1::2].sum()))


def _run_lengths(tight: np.ndarray, *, x: int, y: int, width: int, height: int) -> np.ndarray:
    """Lengths of the runs of 0, 1, 0, ... down the columns of the whole mask."""
    rows, columns = tight.shape
    # A row of zeros below the object ends each column's run, unless columns really touch.
    stride = rows if rows == height else rows + 1
    pixels = np.zeros(1 + columns * stride + 1, bool)  # a 0 at both ends, where runs may end too
    pixels[1:-1].reshape(columns, stride)[:, :rows] = tight.T
    column, row = np.divmod(np.flatnonzero(pixels[1:] != pixels[:-1]), stride)
    changes = (x + column) * height + y + row
    lengths = np.diff(changes, prepend=0, append=height * width)
    return lengths if lengths[-1] else lengths[:-1]
