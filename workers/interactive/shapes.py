"""What an answer says of one mask, in the shapes of Roboflow's API."""

from typing import Any, Literal, Protocol

from domain.annotations import Rle
from domain.rle import Box
from workers.interactive.polygons import polygons

ShapeFormat = Literal["polygon", "rle"]


class ScoredMask(Protocol):
    """`box`: the tight (x, y, width, height) of the mask's pixels; 0 by 0 where there are none."""

    @property
    def score(self) -> float: ...
    @property
    def rle(self) -> Rle: ...
    @property
    def box(self) -> Box: ...


def prediction(mask: ScoredMask, *, format: ShapeFormat) -> dict[str, Any]:  # noqa: A002
    """One mask as `/sam3/concept_segment` and `/sam3/visual_segment` answer it."""
    masks = rle_object(mask.rle) if format == "rle" else polygons(mask.rle, mask.box)
    return {"masks": masks, "confidence": mask.score, "format": format}


def rle_object(rle: Rle) -> dict[str, Any]:
    """COCO's compressed run lengths as JSON; `size` is [height, width]."""
    return {"size": list(rle.size), "counts": rle.counts.decode("ascii")}
