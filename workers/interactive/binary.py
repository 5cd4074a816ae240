"""Masks as NumPy's .npz, for callers that want pixels. One full-size mask exists at a time."""

import io
import zipfile
from collections.abc import Sequence
from typing import IO

import numpy as np
from numpy.lib import format as npy

from domain.rle import unroll
from workers.interactive.deadlines import NEVER, check_time
from workers.interactive.segmenter import SeenImage, SegmentedMask

MAX_PIXELS = 2**30  # of all masks together; each is a byte before compression
_QUICK = 1  # zlib's level; masks are mostly zeros


def npz(masks: Sequence[SegmentedMask], image: SeenImage, *, deadline: float = NEVER) -> bytes:
    """`masks`: n x height x width bool, pixels of the image. `low_res_masks`: n x h x w float32,
    the network's own logits. `masks` all come with logits of one size. Raises TimeoutError."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_QUICK) as archive:
        with archive.open("masks.npy", "w", force_zip64=True) as entry:
            _header(entry, np.dtype(bool), (len(masks), image.height, image.width))
            for mask in masks:
                check_time(deadline)
                entry.write(_pixels(mask, image).data)
        with archive.open("low_res_masks.npy", "w", force_zip64=True) as entry:
            logits = [mask.logits for mask in masks if mask.logits is not None]
            _header(entry, np.dtype("<f4"), (len(logits), *logits[0].shape))
            for one in logits:
                check_time(deadline)
                entry.write(np.ascontiguousarray(one, "<f4").data)
    return file.getvalue()


def _header(entry: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> None:
    described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(entry, described)  # type: ignore[no-untyped-call]


def _pixels(mask: SegmentedMask, image: SeenImage) -> np.ndarray:
    """height x width, 0 or 1 in a byte, which is how NumPy writes bool."""
    return unroll(mask.rle, (0, 0, image.width, image.height))
