"""The run lengths of Label Studio's brush: those of thi.ng/rle-pack over an RGBA image's bytes.

Format: github.com/thi-ng/umbrella, packages/rle-pack; label_studio_sdk.converter.brush reads it.
32 bits say how many bytes there are, 5 bits how many bits a byte has (less 1), and four times 4
bits how many bits a run's length may take (less 1). Then each run: 1, 2 bits for which of the
four, the length less 1 in as many bits, the byte. All without gaps, the highest bit first.
"""

import numpy as np

CHANNELS = 4  # red, green, blue, alpha; all are 255 where the mask is
_SIZES = np.array([3, 4, 8, 16])
_LONGEST = 1 << _SIZES
_HEAD_BITS, _HEAD = 53, 7 << 16 | 2 << 12 | 3 << 8 | 7 << 4 | 15


def pack(runs: np.ndarray) -> bytes:
    """`runs` are pixels without the mask, with it, without, ... over all rows of the image."""
    values = np.where(np.arange(len(runs)) & 1, 255, 0)
    lengths, values = _short(CHANNELS * runs[runs > 0], values[runs > 0])
    kinds = np.searchsorted(_LONGEST, lengths)
    sizes = _SIZES[kinds]
    codes = ((4 | kinds) << sizes | lengths - 1) << 8 | values
    head = _bits(np.array([int(lengths.sum()) << 21 | _HEAD]), np.array([_HEAD_BITS]))
    return np.packbits(np.concatenate([head, _bits(codes, 1 + 2 + sizes + 8)])).tobytes()


def _short(lengths: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs that are too long in pieces, the last of them the shorter one."""
    pieces = -(-lengths // _LONGEST[-1])
    short = np.full(pieces.sum(), _LONGEST[-1])
    short[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * _LONGEST[-1]
    return short, np.repeat(values, pieces)


def _bits(codes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The lowest bits of each, as many as `sizes` says, one after the other."""
    bits = np.unpackbits(codes.astype(">u8").view(np.uint8)).reshape(-1, 64)
    chosen: np.ndarray = bits[np.arange(64) >= 64 - sizes[:, None]]
    return chosen
