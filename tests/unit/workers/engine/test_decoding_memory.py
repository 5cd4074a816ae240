"""What decoding takes: pixels, copies of them, and images at a time."""

import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from domain.errors import ImageErrorCode
from tests.unit.workers.engine.image_files import LIMIT, corners, file_of, refused
from workers.engine import decoding
from workers.engine.decoding import decode, limit_pixels_at_once


@pytest.mark.parametrize("mode", ["I", "F"])
def test_images_of_32_bits_have_a_quarter_of_the_limit(mode: str) -> None:
    data = file_of(Image.new(mode, (40, 25)), "TIFF")
    assert decode(data, max_pixels=4000).pixels.shape == (25, 40, 3)
    assert refused(data, max_pixels=3999) == ImageErrorCode.TOO_LARGE


def test_32_bit_pixels_are_stretched_over_the_whole_of_a_large_image() -> None:
    values = np.full((1100, 1000), 5, np.int32)
    values[0, 0], values[-1, -1] = -(2**31), 2**31 - 1
    pixels = decode(file_of(Image.fromarray(values), "TIFF"), max_pixels=LIMIT).pixels
    assert [int(pixels[at][0]) for at in ((0, 0), (0, 1), (-1, 0), (-1, -1))] == [0, 128, 128, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "1", "I;16", "CMYK"])
def test_strips_give_the_pixels_that_the_whole_image_gives(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(7).integers(0, 256, (23, 31, 4), dtype=np.uint8)
    image = Image.fromarray(values)
    image = (
        Image.fromarray(values[..., 0].astype(np.uint16) * 257)
        if mode == "I;16"
        else image.convert(mode)
    )
    options = {"transparency": bytes(range(256))} if mode == "P" else {}
    data = file_of(image, "TIFF" if mode == "CMYK" else "PNG", **options)
    whole = decode(data, max_pixels=LIMIT).pixels
    monkeypatch.setattr(decoding, "_PIXELS_AT_ONCE", 4 * 31 + 5)
    assert (decode(data, max_pixels=LIMIT).pixels == whole).all()


def test_transparency_is_laid_on_white_without_copies_of_the_whole_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pillow's own memory is not traced, so: no call ever gets more than a strip."""
    largest: list[int] = []
    composite = Image.alpha_composite

    def watched(below: Image.Image, above: Image.Image) -> Image.Image:
        largest.append(above.width * above.height)
        return composite(below, above)

    monkeypatch.setattr(Image, "alpha_composite", watched)
    data = file_of(Image.new("RGBA", (2000, 2000), (9, 9, 9, 99)), "PNG")
    tracemalloc.start()
    try:
        pixels = decode(data, max_pixels=LIMIT).pixels
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(largest) <= 2**20
    assert peak < 2 * pixels.nbytes


@pytest.fixture
def decoding_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many images are just being decoded, noted whenever one more is."""
    running: list[str] = []
    noted: list[int] = []
    started = threading.Event()
    inner = decoding._decode_upright

    def watched(image: Image.Image) -> Any:
        running.append("one")
        noted.append(len(running))
        started.wait(0.2)  # for others, if they may
        try:
            return inner(image)
        finally:
            running.pop()

    monkeypatch.setattr(decoding, "_decode_upright", watched)
    yield noted
    limit_pixels_at_once(None)


def decode_together(data: bytes, count: int) -> None:
    with ThreadPoolExecutor(count) as threads:
        list(threads.map(lambda _: decode(data, max_pixels=LIMIT), range(count)))


def test_large_images_wait_for_each_other_where_that_is_wanted(decoding_at_once: list[int]) -> None:
    data = file_of(Image.new("1", (2500, 2000)), "PNG")
    decode_together(data, 4)
    assert max(decoding_at_once) == 4
    decoding_at_once.clear()
    limit_pixels_at_once(10_000_000)
    decode_together(data, 4)
    assert max(decoding_at_once) == 2
    decoding_at_once.clear()
    limit_pixels_at_once(1)
    decode_together(data, 3)
    assert max(decoding_at_once) == 1


def test_small_images_do_not_wait_for_large_ones(decoding_at_once: list[int]) -> None:
    limit_pixels_at_once(1)
    decode_together(file_of(corners(), "PNG"), 4)
    assert max(decoding_at_once) == 4


def test_an_image_that_cannot_be_decoded_leaves_its_room(decoding_at_once: list[int]) -> None:
    limit_pixels_at_once(1)
    data = file_of(Image.new("L", (2500, 2000)), "PNG")
    assert refused(data[: len(data) // 2]) == ImageErrorCode.TRUNCATED
    decode_together(data, 2)
    assert max(decoding_at_once) == 1
