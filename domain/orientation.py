"""From the upright image back to the pixels as they are stored, by the EXIF orientation."""

from dataclasses import dataclass

import numpy as np

from domain.annotations import Rle
from domain.rle import Box, empty_mask, roll, unroll


@dataclass(frozen=True, slots=True)
class Turn:
    """What undoes an EXIF orientation: rows become columns, then these sides are swapped."""

    transposes: bool = False
    flips_x: bool = False
    flips_y: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the stored image."""
        return (height, width) if self.transposes else (width, height)

    def turned(self, box: Box, mask: Rle) -> tuple[Box, Rle]:
        """A mask in the stored pixels and its box, which holds all of it; no more than the columns
        of the box are walked."""
        height, width = mask.size
        width, height = self.size(width, height)
        x, y, box_width, box_height = turned = self._box(box, width=width, height=height)
        if not (box_width and box_height):
            return box, empty_mask((height, width))
        pixels = self.pixels(unroll(mask, box).view(bool))
        return turned, roll(pixels, x=int(x), y=int(y), size=(height, width))

    def _box(self, box: Box, *, width: int, height: int) -> Box:
        """`width` and `height` are those of the stored image."""
        x, y, box_width, box_height = box
        if self.transposes:
            x, y, box_width, box_height = y, x, box_height, box_width
        left = width - x - box_width if self.flips_x else x
        top = height - y - box_height if self.flips_y else y
        return left, top, box_width, box_height

    def pixels(self, upright: np.ndarray) -> np.ndarray:
        """height x width, as they are stored."""
        stored = upright.T if self.transposes else upright
        rows, columns = -1 if self.flips_y else 1, -1 if self.flips_x else 1
        return stored[::rows, ::columns]


UPRIGHT = Turn()

_TURNS = {  # EXIF 2.32, 4.6.4 A: what the tag says of row 0 and column 0
    1: UPRIGHT,
    2: Turn(flips_x=True),
    3: Turn(flips_x=True, flips_y=True),
    4: Turn(flips_y=True),
    5: Turn(transposes=True),
    6: Turn(transposes=True, flips_y=True),
    7: Turn(transposes=True, flips_x=True, flips_y=True),
    8: Turn(transposes=True, flips_x=True),
}


def turn_to_stored(orientation: int) -> Turn:
    """For the EXIF orientation that a row records, 1 to 8."""
    return _TURNS[orientation]
