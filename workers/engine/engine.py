"""What an engine is: the pipeline and the workers know no more of a network than this."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from domain.prompts import ModelLimits, Prompt
from workers.engine.jpeg_on_device import DeviceJpeg


@dataclass(frozen=True, slots=True)
class ImageInput:
    """`squashed` is what Engine.squash made of the pixels; sizes are those of the image."""

    squashed: Tensor
    width: int
    height: int
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A mask with its score, in host memory. `image` counts in the batch, `prompt` in that image's
    prompts.

    `mask` is h x w float32; resized to the image, bilinear, it is above 0 inside. Or, where that
    was done on the device, an array of the positions that mask_encoding.encode_changes takes.
    """

    image: int
    prompt: int
    score: float
    mask: Tensor | np.ndarray


SquashJpegs = Callable[[Sequence[DeviceJpeg]], list[Tensor | None]]


class Engine(Protocol):
    """`name`, `weights_sha256`: which network. `limits`, `tokenizer_json`: what others must know
    to check prompts without torch. `notice`: a line for users of a network that is only a demo.
    `details`: precision and the like, in words for operators. `squash_jpegs` decodes and squashes
    on the device what jpeg_on_device.suits lets through, None for what it cannot; it is None
    itself where `squash` shall get all pixels.

    Methods may be called from several threads.
    """

    name: str
    device: torch.device
    weights_sha256: str
    notice: str | None
    details: str
    squash_jpegs: SquashJpegs | None
    limits: ModelLimits
    tokenizer_json: str

    @property
    def images_per_batch(self) -> int: ...

    def squash(self, pixels: np.ndarray) -> Tensor:
        """The part of preprocessing that fits beside decoding; HxWx3 uint8 in."""
        ...

    def segment(self, images: Sequence[ImageInput], *, floor: float) -> list[list[Found]]:
        """The masks of each image, unordered: every instance of a concept that scores `floor` or
        more, and one for each mask prompt.

        Raises torch.OutOfMemoryError: fewer images need less.
        """
        ...
