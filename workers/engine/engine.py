"""What an engine is: the pipeline and the workers know no more of a network than this."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from domain.geometry import Point
from domain.prompts import ModelLimits, Prompt
from workers.engine.jpeg_on_device import DeviceJpeg

Corners = tuple[float, float, float, float]  # x0, y0, x1, y1


@dataclass(frozen=True, slots=True, eq=False)
class Pointed:
    """One object pointed at by clicks, a box, both, or nothing at all; in pixels of the image.

    Taken as it is: unlike a MaskPrompt it may lie outside the image, its box may have any
    corners, and exactly one mask answers it, which may be empty. `multimask`: that is the best of
    three candidates (whole, part, subpart), else the one meant for prompts that leave no doubt.
    `previous` are the `logits` of an earlier answer, which the network then refines.
    """

    points: tuple[Point, ...] = ()
    box: Corners | None = None
    multimask: bool = True
    previous: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What an engine keeps of an image, so that other prompts need not see it again: for ours the
    ViT's features, C x h x w. Only the engine that made it can read it."""

    features: Tensor

    @property
    def byte_count(self) -> int:
        return self.features.nbytes

    def to(self, device: torch.device) -> "Embedding":
        return Embedding(self.features.to(device))


@dataclass(frozen=True, slots=True)
class ImageInput:
    """`pixels` is what Engine.squash made of them, or Engine.embed of that; sizes are those of the
    image. `floor` is the least score with which an instance of a concept is kept."""

    pixels: Tensor | Embedding
    width: int
    height: int
    prompts: tuple[Prompt | Pointed, ...]
    floor: float


@dataclass(frozen=True, slots=True)
class Found:
    """A mask with its score, in host memory. `image` counts in the batch, `prompt` in that image's
    prompts.

    `mask` is h x w float32; resized to the image, bilinear, it is above 0 inside. Or, where that
    was done on the device, an array of the positions that mask_encoding.encode_changes takes.
    `logits`, h x w float32, is the mask as it left the network; for Pointed prompts only.
    """

    image: int
    prompt: int
    score: float
    mask: Tensor | np.ndarray
    logits: np.ndarray | None = None


SquashJpegs = Callable[[Sequence[DeviceJpeg]], list[Tensor | None]]


class Engine(Protocol):
    """`name`, `weights_sha256`: which network. `limits`, `tokenizer_json`: what others must know
    to check prompts without torch. `notice`: a line for users of a network that is only a demo.
    `details`: precision and the like, in words for operators. `squash_jpegs` decodes and squashes
    on the device what jpeg_on_device.suits lets through, None for what it cannot; it is None
    itself where `squash` shall get all pixels. `steps` grows with each pass through a part of the
    network: on a CPU a batch of many prompts takes minutes.

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
    def steps(self) -> int: ...

    @property
    def images_per_batch(self) -> int: ...

    def squash(self, pixels: np.ndarray) -> Tensor:
        """The part of preprocessing that fits beside decoding; HxWx3 uint8 in."""
        ...

    def embed(self, squashed: Sequence[Tensor]) -> list[Embedding]:
        """Of what `squash` gave, on the engine's device. Raises as `segment` does."""
        ...

    def segment(self, images: Sequence[ImageInput]) -> list[list[Found]]:
        """The masks of each image: every instance of a concept that scores the image's `floor` or
        more, one for each mask prompt that lies in the image, one for each Pointed. Those of one
        prompt come in the order of the network's queries.

        Raises torch.OutOfMemoryError: fewer images need less.
        """
        ...

    def use_threads(self, count: int | None) -> None:
        """Compute with so many threads from the next batch on; None: as many as at the start."""
        ...
