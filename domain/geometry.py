"""Boxes and points in absolute pixels of the oriented image, origin top left."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """Corners in pixels; `x1 > x0` and `y1 > y0`, all finite."""

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.x0, self.y0, self.x1, self.y1))):
            raise ValueError("box coordinates must be finite numbers")
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise ValueError("box must have a width and a height above 0")

    @classmethod
    def from_xywh(cls, x: float, y: float, width: float, height: float) -> "Box":
        """A box from its top left corner and its size (COCO's convention)."""
        return cls(x, y, x + width, y + height)


@dataclass(frozen=True, slots=True)
class Point:
    """A click in pixels; `positive` says it lies on the object."""

    x: float
    y: float
    positive: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y)):
            raise ValueError("point coordinates must be finite numbers")
