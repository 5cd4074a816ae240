"""Masks in tests: run lengths to pixels, and how much two masks overlap."""

import warnings

import numpy as np
from pycocotools import mask as coco_mask

from domain.annotations import Rle


def pixels_of(rle: Rle) -> np.ndarray:
    with warnings.catch_warnings():
        # pycocotools 2.0.11 is not quite ready for numpy 2, in decode alone
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco_mask.decode({"size": list(rle.size), "counts": rle.counts}).astype(bool)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))
