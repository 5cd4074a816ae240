"""Masks made at random, and what is plainly true of them."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from domain.annotations import Rle
from domain.rle import Box


@st.composite
def masks(draw: st.DrawFn, *, side: int = 24, size: tuple[int, int] | None = None) -> np.ndarray:
    """Noise or rectangles, so that there are both many small parts and large ones with holes."""
    sides = st.integers(1, side)
    size = size or draw(st.tuples(sides, sides))
    if draw(st.booleans()):
        return draw(arrays(np.uint8, size, elements=st.integers(0, 1)))
    mask = np.zeros(size, np.uint8)
    for _ in range(draw(st.integers(0, 6))):
        rows = sorted((draw(st.integers(0, size[0])), draw(st.integers(0, size[0]))))
        columns = sorted((draw(st.integers(0, size[1])), draw(st.integers(0, size[1]))))
        mask[slice(*rows), slice(*columns)] ^= 1
    return mask


def encoded(mask: np.ndarray) -> tuple[Rle, Box]:
    rle = coco_mask.encode(np.asfortranarray(mask))
    x, y, width, height = coco_mask.toBbox(rle).tolist()
    return Rle((mask.shape[0], mask.shape[1]), rle["counts"]), (x, y, width, height)


def tight_box(mask: np.ndarray) -> Box:
    """pycocotools gives full height to what wraps into the next column, so it is not asked."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    x, y = columns.min(), rows.min()
    return float(x), float(y), float(columns.max() - x + 1), float(rows.max() - y + 1)
