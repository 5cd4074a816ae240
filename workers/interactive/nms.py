"""Non-maximum suppression over the masks of one image, whatever prompts they answer."""

from collections.abc import Sequence

from domain.nms import Candidates, survivors
from workers.interactive.deadlines import NEVER, check_time
from workers.interactive.segmenter import SegmentedMask


def suppress(
    masks: Sequence[SegmentedMask], *, iou_threshold: float, deadline: float = NEVER
) -> list[SegmentedMask]:
    """The masks that overlap no better one by an IoU above `iou_threshold`, in the order given.

    Within prompts and across them; of equal scores the earlier mask, which is that of the earlier
    prompt, is the better one. Raises TimeoutError after `deadline`.
    """
    candidates = Candidates(
        [mask.score for mask in masks],
        [mask.rle for mask in masks],
        [mask.box for mask in masks],
        [mask.area for mask in masks],
    )
    kept = survivors(
        candidates, iou_threshold=iou_threshold, before_each=lambda: check_time(deadline)
    )
    return [masks[position] for position in kept]
