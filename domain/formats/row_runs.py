"""Run lengths row by row, which annotation tools use; COCO's go column by column."""

import numpy as np

from domain.annotations import Rle
from domain.rle import Box, find_changes, unroll


def runs_in_image(mask: Rle, box: Box) -> np.ndarray:
    """How many pixels are not the mask's, are, are not, ... over all rows of the image. The first
    is 0 where the mask has the first pixel. `box` is the mask's tight one, with pixels in it."""
    height, width = mask.size
    return _runs(unroll(mask, box), x=int(box[0]), y=int(box[1]), width=width, height=height)


def runs_in_box(mask: Rle, box: Box) -> np.ndarray:
    """The same over the rows of the box alone."""
    return _runs(unroll(mask, box), x=0, y=0, width=int(box[2]), height=int(box[3]))


def _runs(pixels: np.ndarray, *, x: int, y: int, width: int, height: int) -> np.ndarray:
    """Rows are the columns of the image turned over."""
    changes = find_changes(pixels.T, x=y, y=x, size=(width, height))
    return np.diff(changes, prepend=0, append=width * height)
