"""Masks as NumPy's .npz, for callers that want pixels. One full-size mask exists at a time."""

import io
import zipfile
from collections.abc import Sequence
from typing import IO

import numpy as np
from numpy.lib import format as npy

from workers.interactive.polygons import unroll
from workers.interactive.segmenter import SeenImage, SegmentedMask

_QUICK = 1  # zlib's level; masks are mostly zeros


def npz(masks: Sequence[SegmentedMask], image: SeenImage) -> bytes:
    """`masks`: n x height x width bool, pixels of the image. `low_res_masks`: n x h x w float32,
    the network's own logits. `masks` all come with logits of one size."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_QUICK) as archive:
        with archive.open("masks.npy", "w", force_zip64=True) as entry:
            _header(entry, np.dtype(bool), (len(masks), image.height, image.width))
            for mask in masks:
                entry.write(_pixels(mask, image).tobytes())
        with archive.open("low_res_masks.npy", "w") as entry:
            logits = np.array([mask.logits for mask in masks], np.float32)
            npy.write_array(entry, logits, allow_pickle=False)  # type: ignore[no-untyped-call]
    return file.getvalue()


def _header(entry: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> None:
    described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(entry, described)  # type: ignore[no-untyped-call]


def _pixels(mask: SegmentedMask, image: SeenImage) -> np.ndarray:
    """height x width, 0 or 1 in a byte, which is how NumPy writes bool."""
    return unroll(mask.rle, (0, 0, image.width, image.height))
