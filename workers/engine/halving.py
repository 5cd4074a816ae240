"""A batch that is too large for the memory, done in halves."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from domain.errors import ImageError, ImageErrorCode

In = TypeVar("In")
Out = TypeVar("Out")


def halving(
    work: Callable[[Sequence[In]], list[Out]], batch: Sequence[In], *, device: torch.device
) -> list[Out | ImageError]:
    """What `work` gives for each of the batch's images, done on `device`; where one did not fit
    even alone, an ImageError."""
    try:
        return list(work(batch))
    except torch.OutOfMemoryError:
        pass  # retried below, where no traceback holds the tensors any more
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if len(batch) == 1:
        message = f"not enough memory on {device} for this image alone"
        return [ImageError(ImageErrorCode.OUT_OF_MEMORY, message)]
    half = len(batch) // 2
    return [
        *halving(work, batch[:half], device=device),
        *halving(work, batch[half:], device=device),
    ]
