"""From the host to the device without waiting for it."""

from typing import Any

import torch
from torch import Tensor


def moved(values: Any, device: torch.device) -> Tensor:
    """A tensor, or nested lists of numbers, as a tensor on the device. What lies in ordinary memory
    is copied when the device has done all that was asked of it before; in pinned memory, later."""
    tensor = torch.as_tensor(values)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
