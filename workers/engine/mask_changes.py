"""From the network's small masks to the changes that mask_encoding takes, on the device.

No full-size mask leaves the device, only the positions where it changes: 30 KiB instead of 2 MiB
at 1920 x 1080. mask_resizing is the same for masks on the host.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

_PIXELS_AT_ONCE = 1 << 25  # 128 MiB as float32
_POSITIONS_AT_ONCE = 1 << 24  # on their way to the host, 64 MiB
_CHANGES_PER_COLUMN = 4  # that there is room for; a plain object has two
_NONE = (1 << 31) - 1  # fills what room is left; greater than any position, so all stays sorted


@dataclass(frozen=True, slots=True)
class ImageMasks:
    """`masks` are K x h x w float32; resized to the image's size, they are above 0 inside."""

    masks: Tensor
    width: int
    height: int


@torch.inference_mode()
def changes(
    images: Sequence[ImageMasks], *, pixels_at_once: int = _PIXELS_AT_ONCE
) -> list[list[np.ndarray]]:
    """For each mask of each image the positions that mask_encoding.encode_changes takes, int64.

    Pixels are set where interpolate(mode="bilinear", align_corners=False) gives more than 0; what
    it puts within 1e-6 of 0 may fall on either side.

    At most `pixels_at_once` are resized at a time, whole masks together or the columns of one in
    strips, so the memory on the device depends on neither sizes nor counts (one column, and the
    one before it, always fit). The host waits for the device once, as nonzero_static has its room
    set beforehand; and again for each strip or group of masks that needs more room, and whenever
    16 million positions are on their way.

    All masks are on one device. Raises torch.OutOfMemoryError.
    """
    parts: list[list[list[np.ndarray]]] = [[[] for _ in image.masks] for image in images]
    for together in _rounds(_pieces(images, pixels_at_once)):
        started = [_start(piece) for piece in together]
        _wait_for(images[0].masks.device)
        for piece, positions in zip(together, started, strict=True):
            for mask, part in zip(piece.masks, _finish(piece, positions.numpy()), strict=True):
                parts[piece.place][mask].append(part)
    return [[np.concatenate(strips) for strips in masks] for masks in parts]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some columns of some masks of `image`, which is the one at `place`."""

    place: int
    image: ImageMasks
    masks: range
    columns: range

    @property
    def pixels(self) -> int:
        """Of one mask."""
        return len(self.columns) * self.image.height

    @property
    def room(self) -> int:
        per_mask = min(self.pixels, _CHANGES_PER_COLUMN * len(self.columns))
        return per_mask * len(self.masks)


def _pieces(images: Sequence[ImageMasks], pixels_at_once: int) -> Iterator[_Piece]:
    for place, image in enumerate(images):
        count, small_height, _ = image.masks.shape
        # A column is small_height values before it is resized downwards, height pixels after.
        columns = max(1, pixels_at_once // max(small_height, image.height))
        strip, masks = min(columns, image.width), max(1, columns // image.width)
        for mask in range(0, count, masks):
            for column in range(0, image.width, strip):
                yield _Piece(
                    place,
                    image,
                    range(mask, min(mask + masks, count)),
                    range(column, min(column + strip, image.width)),
                )


def _rounds(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces whose positions may be on their way at once."""
    together: list[_Piece] = []
    room = 0
    for piece in pieces:
        together.append(piece)
        room += piece.room
        if room >= _POSITIONS_AT_ONCE:
            yield together
            together, room = [], 0
    if together:
        yield together


def _start(piece: _Piece) -> Tensor:
    """Where the piece changes, on the way to the host: int32, counted through all its masks."""
    found = torch.nonzero_static(_changed(piece), size=piece.room, fill_value=_NONE)
    return found[:, 0].int().to("cpu", non_blocking=True)  # from a GPU into pinned memory


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def _finish(piece: _Piece, positions: np.ndarray) -> list[np.ndarray]:
    """The positions of each mask, counted in the whole image."""
    if positions[-1] != _NONE:  # no room left: some may be missing
        positions = _changed(piece).nonzero()[:, 0].int().cpu().numpy()
    found = positions[: np.searchsorted(positions, np.int32(_NONE))].astype(np.int64)
    firsts = np.arange(len(piece.masks)) * piece.pixels
    shift = piece.columns.start * piece.image.height
    of_masks = np.split(found, np.searchsorted(found, firsts[1:]))
    return [one - first + shift for one, first in zip(of_masks, firsts, strict=True)]


def _changed(piece: _Piece) -> Tensor:
    """Mask by mask, column by column: whether a pixel differs from the one before it; bool."""
    height = piece.image.height
    columns = _columns(piece)
    # Columns as rows, so that pixels lie in the order they are wanted in; they stay as many.
    size = (columns.shape[1], height)
    resized = interpolate(columns[None], size=size, mode="bilinear", align_corners=False)
    inside = resized[0].flatten(1) > 0
    if piece.columns.start == 0:
        inside[:, height - 1] = False
    return (inside[:, height:] != inside[:, height - 1 : -1]).flatten()


def _columns(piece: _Piece) -> Tensor:
    """masks x columns x small height, resized across only, with the column before the first.

    Written out, as interpolate cannot start anywhere else than at the image's edge. In float64 a
    place rounds as where torch fuses its multiplication and subtraction.
    """
    small = piece.image.masks[piece.masks.start : piece.masks.stop].transpose(1, 2)
    width = small.shape[1]
    scale = float(np.float32(width) / np.float32(piece.image.width))
    wanted = torch.arange(piece.columns.start - 1, piece.columns.stop, device=small.device)
    places = ((wanted.double() + 0.5) * scale - 0.5).clamp_(min=0).float()
    before = places.long()
    after = (before + 1).clamp_(max=width - 1)
    way = (places - before)[:, None]
    return small.index_select(1, before) * (1 - way) + small.index_select(1, after) * way
