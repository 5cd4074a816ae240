"""Files of images to decode, and what comes of them."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from domain.errors import ImageError, ImageErrorCode
from workers.engine.decoding import decode

LIMIT = 10_000_000


def file_of(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def corners() -> Image.Image:
    """40 x 24, upright: red top left, green top right, blue bottom left, white bottom right."""
    image = Image.new("RGB", (40, 24), "white")
    image.paste("red", (0, 0, 20, 12))
    image.paste("lime", (20, 0, 40, 12))
    image.paste("blue", (0, 12, 20, 24))
    return image


def refused(data: bytes, max_pixels: int = LIMIT) -> ImageErrorCode:
    with pytest.raises(ImageError) as caught:
        decode(data, max_pixels=max_pixels)
    assert caught.value.message
    return caught.value.code


def same(pixels: np.ndarray, expected: Image.Image, within: int = 0) -> bool:
    difference = np.abs(pixels.astype(int) - np.asarray(expected.convert("RGB"), int))
    return bool(difference.max() <= within)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
