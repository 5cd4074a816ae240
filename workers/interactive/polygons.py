"""From run lengths to the polygons of the interactive endpoints: through the centres of pixels, as
Roboflow's clients expect them. `domain.polygons` follows the pixels' edges instead, for exports."""

import cv2

from domain.annotations import Rle
from domain.rle import Box, unroll

Polygon = list[list[int]]


def polygons(rle: Rle, box: Box) -> list[Polygon]:
    """The outlines of a mask's connected parts: for each the pixels [x, y] on its rim where the
    direction changes, in the image's coordinates, not closed. One or two points are possible.

    `box` is the mask's tight box. Parts that touch at a corner count as one, holes are left out;
    a mask without pixels gives `[[]]`.
    """
    x, y, width, height = map(int, box)
    if not (width and height):
        return [[]]
    crop = unroll(rle, box)
    contours, _ = cv2.findContours(crop, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    return [contour[:, 0].tolist() for contour in contours] or [[]]
