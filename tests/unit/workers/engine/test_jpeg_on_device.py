from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from domain.errors import ImageError
from workers.engine import jpeg_on_device
from workers.engine.decoding import decode
from workers.engine.jpeg_on_device import DeviceJpeg, decode_and_squash, suits
from workers.engine.preprocessing import Preprocessing

LIMIT = 10_000_000
CPU = torch.device("cpu")
SIDE = 64
EXIF_ORIENTATION = 0x0112
EXTENDED, PROGRESSIVE, LOSSLESS, ARITHMETIC = b"\xff\xc1", b"\xff\xc2", b"\xff\xc3", b"\xff\xc9"


class Sizes:
    """What Preprocessing reads of an image processor."""

    size = {"height": SIDE}  # noqa: RUF012
    rescale_factor = 1 / 255
    image_mean = image_std = (0.5, 0.5, 0.5)


def photo(width: int = 200, height: int = 120, mode: str = "RGB") -> Image.Image:
    """Smooth, and different in every corner and channel."""
    y, x = np.mgrid[:height, :width] / (max(width, height) / 3)
    channels = [np.sin(x + 2 * y), np.cos(2 * x - y), np.sin(x * y)]
    values = np.stack(channels, axis=-1) * 100 + 128
    return Image.fromarray(values.astype(np.uint8)).convert(mode)


def jpeg(image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = BytesIO()
    (image or photo()).save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def with_orientation(value: int) -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = value
    return jpeg(exif=exif)


def segment(data: bytes, marker: bytes) -> slice:
    start = data.index(marker)
    return slice(start, start + 2 + int.from_bytes(data[start + 2 : start + 4], "big"))


def with_frame(data: bytes, at: int, replacement: bytes) -> bytes:
    """Changed within the frame header, counted from its marker."""
    start = segment(data, b"\xff\xc0").start + at
    return data[:start] + replacement + data[start + len(replacement) :]


def without(data: bytes, marker: bytes) -> bytes:
    found = segment(data, marker)
    return data[: found.start] + data[found.stop :]


def by_pillow(data: bytes) -> Tensor:
    return Preprocessing(Sizes).squash(decode(data, max_pixels=LIMIT).pixels)


def suited(data: bytes) -> DeviceJpeg:
    found = suits(data, max_pixels=LIMIT)
    assert found is not None
    return found


def check(data: bytes) -> None:
    """Sizes, orientation and pixels are those of decoding and squashing with Pillow."""
    header, decoded = suited(data), decode(data, max_pixels=LIMIT)
    assert (header.height, header.width) == decoded.pixels.shape[:2]
    assert header.orientation == decoded.orientation
    assert header.data == data
    (squashed,) = decode_and_squash([header], side=SIDE, device=CPU)
    assert squashed is not None
    assert (squashed.dtype, squashed.shape) == (torch.uint8, (3, SIDE, SIDE))
    assert (squashed.int() - by_pillow(data).int()).abs().max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_put_upright_as_by_pillow(orientation: int) -> None:
    data = with_orientation(orientation)
    assert suited(data).orientation == orientation
    check(data)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_does_not_exist_changes_nothing(orientation: int) -> None:
    check(with_orientation(orientation))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_colours_of_the_usual_samplings_are_decoded(subsampling: str) -> None:
    check(jpeg(subsampling=subsampling))


def test_grey_files_become_rgb() -> None:
    check(jpeg(photo(mode="L")))


def test_an_image_of_one_pixel_and_one_of_the_very_side_are_squashed() -> None:
    check(jpeg(Image.new("RGB", (1, 1), "red")))
    check(jpeg(photo(SIDE, SIDE)))


def test_an_adobe_file_in_ycbcr_is_taken() -> None:
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"
    data = jpeg()
    check(data[:2] + adobe + data[2:])


def test_restart_markers_are_part_of_the_scan() -> None:
    data = jpeg(restart_marker_blocks=4)
    assert b"\xff\xd3" in data
    check(data)


def test_a_jpeg_within_the_header_is_not_mistaken_for_the_image() -> None:
    thumbnail = jpeg(photo(16, 8))
    data = jpeg(comment=thumbnail)
    assert thumbnail in data
    check(data)


def test_what_follows_the_image_is_cut_off() -> None:
    alone = jpeg()
    buffer = BytesIO()
    photo().save(buffer, "MPO", quality=90, save_all=True, append_images=[photo(80, 40)])
    for data in (alone + jpeg(photo(16, 8)), alone + b"SEFT" * 100, buffer.getvalue()):
        assert len(suited(data).encoded) < len(data) - 100
        assert bytes(suited(data).encoded[-2:].tolist()) == b"\xff\xd9"
        check(data)


def test_pillow_is_left_what_is_progressive_arithmetic_lossless_or_in_several_scans() -> None:
    assert suits(jpeg(progressive=True), max_pixels=LIMIT) is None
    for kind in (PROGRESSIVE, LOSSLESS, ARITHMETIC):
        assert suits(with_frame(jpeg(), 0, kind), max_pixels=LIMIT) is None
    assert suits(with_frame(jpeg(), 0, EXTENDED), max_pixels=LIMIT) is not None
    data = jpeg()
    scan = data[segment(data, b"\xff\xda").start : -2]
    assert suits(data[:-2] + scan + data[-2:], max_pixels=LIMIT) is None


def test_pillow_is_left_what_is_not_8_bit_grey_or_ycbcr() -> None:
    assert suits(jpeg(photo(mode="CMYK")), max_pixels=LIMIT) is None
    assert suits(jpeg(keep_rgb=True), max_pixels=LIMIT) is None
    assert suits(with_frame(jpeg(), 4, b"\x0c"), max_pixels=LIMIT) is None  # 12 bits
    adobe_rgb = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
    data = jpeg()
    assert suits(data[:2] + adobe_rgb + data[2:], max_pixels=LIMIT) is None


def test_pillow_is_left_unusual_samplings() -> None:
    assert suits(with_frame(jpeg(), 11, b"\x41"), max_pixels=LIMIT) is None
    assert suits(with_frame(jpeg(photo(mode="L")), 11, b"\x22"), max_pixels=LIMIT) is None


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.1, 0.5, 0.99])
def test_pillow_is_left_files_that_are_cut_off(share: float) -> None:
    data = jpeg()
    assert suits(data[: int(len(data) * share)], max_pixels=LIMIT) is None


def test_pillow_is_left_what_is_no_jpeg_or_damaged_in_the_header() -> None:
    png = BytesIO()
    photo().save(png, "PNG")
    data = jpeg()
    frame = data[segment(data, b"\xff\xc0")]
    for other in (
        png.getvalue(),
        b"\xff\xd8" + bytes(range(256)) * 8 + b"\xff\xd9",
        b"\xff\xd8" + b"\xff\xfe\x00\x02" * 2000 + data[2:],
        data[:2] + frame + data[2:],
        with_frame(data, 5, b"\x00\x00"),
        without(data, b"\xff\xc0"),
    ):
        assert suits(other, max_pixels=LIMIT) is None


def test_pillow_is_left_images_above_the_limit_of_pixels() -> None:
    assert suits(jpeg(), max_pixels=200 * 120) is not None
    assert suits(jpeg(), max_pixels=200 * 120 - 1) is None


def test_pillow_is_left_images_too_large_for_the_device() -> None:
    for width, height in ((8192, 4097), (16_385, 1)):
        sizes = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        assert suits(with_frame(jpeg(), 5, sizes), max_pixels=10**9) is None
    sizes = (4096).to_bytes(2, "big") + (8192).to_bytes(2, "big")
    assert suits(with_frame(jpeg(), 5, sizes), max_pixels=10**9) is not None


def test_a_file_that_the_decoder_refuses_leaves_the_others_of_its_batch_alone() -> None:
    good, other = suited(jpeg()), suited(with_orientation(6))
    bad = suited(without(without(jpeg(), b"\xff\xdb"), b"\xff\xdb"))
    with pytest.raises(ImageError):
        decode(bad.data, max_pixels=LIMIT)
    first, none, last = decode_and_squash([good, bad, other], side=SIDE, device=CPU)
    assert none is None
    for squashed, header in ((first, good), (last, other)):
        (alone,) = decode_and_squash([header], side=SIDE, device=CPU)
        assert squashed is not None
        assert alone is not None
        assert torch.equal(squashed, alone)


def test_an_image_of_another_size_than_its_header_told_is_not_taken() -> None:
    header = suited(with_orientation(6))
    assert (header.width, header.height) == (120, 200)
    for wrong in (replace(header, width=121), replace(header, orientation=1)):
        assert decode_and_squash([wrong, header], side=SIDE, device=CPU)[0] is None


def test_no_files_give_nothing() -> None:
    assert decode_and_squash([], side=SIDE, device=CPU) == []


def test_too_little_memory_on_the_device_is_reported_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torchvision wraps it; what it says is copied from decode_jpegs_cuda.cpp."""

    def fail(*_: Any, **__: Any) -> list[Tensor]:
        raise RuntimeError("Error while decoding JPEG images: CUDA out of memory. Tried to ...")

    monkeypatch.setattr(jpeg_on_device, "decode_jpeg", fail)
    with pytest.raises(torch.OutOfMemoryError):
        decode_and_squash([suited(jpeg())], side=SIDE, device=CPU)
