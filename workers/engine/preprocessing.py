"""From upright pixels to what the ViT eats, bit for bit as transformers' Sam3ImageProcessor."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvf


class Preprocessing:
    """Two steps: `squash` on any thread, one image at a time; `normalise` a batch on the device."""

    def __init__(self, image_processor: Any) -> None:
        self.side: int = image_processor.size["height"]
        scale = 1.0 / image_processor.rescale_factor
        # Mean and deviation carry the 1/255 too: one pass, and the rounding of the original.
        self._mean = torch.tensor(image_processor.image_mean) * scale
        self._deviation = torch.tensor(image_processor.image_std) * scale

    def squash(self, pixels: np.ndarray) -> Tensor:
        """HxWx3 uint8 to 3 x side x side uint8."""
        return squashed(torch.from_numpy(pixels).permute(2, 0, 1), side=self.side)

    def normalise(self, batch: Tensor) -> Tensor:
        """Bx3xSxS uint8 to float32, about -1 to 1."""
        mean, deviation = self._mean.to(batch.device), self._deviation.to(batch.device)
        return batch.float().sub_(mean[:, None, None]).div_(deviation[:, None, None])


def squashed(planes: Tensor, *, side: int) -> Tensor:
    """3 x H x W uint8 to 3 x side x side: bilinear, antialiased, aspect ratio not kept."""
    small: Tensor = tvf.resize(
        planes, [side, side], interpolation=InterpolationMode.BILINEAR, antialias=True
    )
    return small
