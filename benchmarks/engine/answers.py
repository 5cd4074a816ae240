"""What every way of doing it starts from and ends with: JPEG files, and instances as COCO RLE."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from domain.annotations import Rle
from workers.engine.mask_encoding import encode
from workers.engine.mask_resizing import Crop

FLOOR = 0.1  # the least score with which instances are kept, as jobs have it by default
MAX_PIXELS = 1 << 27


class Answer(NamedTuple):
    """An instance of the prompt of that number."""

    prompt: int
    score: float
    mask: Rle


Run = Callable[[Sequence[bytes]], Iterator[list[Answer]]]


class Unavailable(Exception):
    """This way cannot be gone here; the message says why in a word or two."""


def answers_of(prompt: int, scores: Tensor, masks: Tensor) -> Iterator[Answer]:
    """`masks` K x H x W bool, moved to the host as they are."""
    for score, mask in zip(scores.tolist(), masks.cpu().numpy(), strict=True):
        if (rle := full_mask(mask)) is not None:
            yield Answer(prompt, score, rle)


def full_mask(inside: np.ndarray) -> Rle | None:
    height, width = inside.shape
    encoded = encode(Crop(inside, 0, 0, width, height))
    return encoded.rle if encoded else None


def opened(jpeg: bytes) -> Image.Image:
    return Image.open(BytesIO(jpeg)).convert("RGB")


def batches(jpegs: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    rest = list(jpegs)
    for start in range(0, len(rest), size):
        yield rest[start : start + size]
