import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.unit.workers.engine.image_files import LIMIT, corners, file_of, png_chunk, same
from workers.engine.decoding import decode

EXIF_ORIENTATION = 0x0112


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000", "GIF"])
def test_formats_without_loss_come_back_to_the_pixel(image_format: str) -> None:
    options = {"lossless": True} if image_format == "WEBP" else {}
    decoded = decode(file_of(corners(), image_format, **options), max_pixels=LIMIT)
    assert same(decoded.pixels, corners())
    assert decoded.orientation == 1


def test_pixels_are_contiguous_writable_rgb_bytes() -> None:
    pixels = decode(file_of(corners(), "PNG"), max_pixels=LIMIT).pixels
    assert (pixels.dtype, pixels.shape) == (np.uint8, (24, 40, 3))
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),  # stored turned left, to be shown turned right
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_exif_orientation_is_applied_and_reported(
    image_format: str, orientation: int, undo: Image.Transpose | None
) -> None:
    stored = corners() if undo is None else corners().transpose(undo)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
    data = file_of(stored, image_format, exif=exif, **options.get(image_format, {}))
    decoded = decode(data, max_pixels=LIMIT)
    assert decoded.orientation == orientation
    middles = [tuple(decoded.pixels[y, x] > 128) for y in (6, 18) for x in (10, 30)]
    assert decoded.pixels.shape == (24, 40, 3)
    assert middles == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]


def test_an_orientation_that_does_not_exist_changes_nothing() -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 77
    decoded = decode(file_of(corners(), "PNG", exif=exif), max_pixels=LIMIT)
    assert decoded.orientation == 1
    assert same(decoded.pixels, corners())


def test_a_damaged_exif_block_does_not_cost_the_pixels() -> None:
    data = file_of(corners(), "PNG", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff broken")
    assert same(decode(data, max_pixels=LIMIT).pixels, corners())


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_are_laid_on_white(image_format: str) -> None:
    image = Image.new("RGBA", (4, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (200, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    data = file_of(image, image_format, **({"lossless": True} if image_format == "WEBP" else {}))
    pixels = decode(data, max_pixels=LIMIT).pixels[0]
    assert pixels[0].tolist() == [255, 255, 255]
    assert pixels[1].tolist() == [200, 0, 0]
    assert abs(int(pixels[2, 0]) - 127) <= 1


def test_grey_with_alpha_is_laid_on_white() -> None:
    image = Image.new("LA", (2, 1), (10, 0))
    image.putpixel((1, 0), (10, 255))
    pixels = decode(file_of(image, "PNG"), max_pixels=LIMIT).pixels[0]
    assert pixels.tolist() == [[255] * 3, [10] * 3]


def test_a_palette_gives_its_colours() -> None:
    data = file_of(corners().quantize(8), "PNG")
    assert same(decode(data, max_pixels=LIMIT).pixels, corners())


def test_a_transparent_palette_entry_is_laid_on_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    pixels = decode(file_of(image, "PNG", transparency=0), max_pixels=LIMIT).pixels[0]
    assert pixels.tolist() == [[255, 255, 255], [0, 0, 255]]


def test_a_transparent_colour_is_laid_on_white() -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    pixels = decode(file_of(image, "PNG", transparency=(1, 2, 3)), max_pixels=LIMIT).pixels[0]
    assert pixels.tolist() == [[255, 255, 255], [9, 9, 9]]


def test_grey_and_one_bit_images_become_rgb() -> None:
    grey = Image.new("L", (3, 2), 77)
    assert same(decode(file_of(grey, "PNG"), max_pixels=LIMIT).pixels, grey)
    bits = Image.new("1", (3, 2), 1)
    assert same(decode(file_of(bits, "PNG"), max_pixels=LIMIT).pixels, bits)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_upper_8_bits(image_format: str) -> None:
    values = np.array([[0, 255, 256, 0x8000, 0xFFFF]], np.uint16)
    pixels = decode(file_of(Image.fromarray(values), image_format), max_pixels=LIMIT).pixels
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 0x80, 0xFF]
    assert (pixels == pixels[..., :1]).all()


def test_16_bit_colour_keeps_its_upper_8_bits() -> None:
    row = b"\x00" + struct.pack(">6H", 0xFFFF, 0x8000, 255, 0x1234, 0, 256)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    data += png_chunk(b"IDAT", zlib.compress(row)) + png_chunk(b"IEND", b"")
    pixels = decode(data, max_pixels=LIMIT).pixels
    assert pixels[0].tolist() == [[0xFF, 0x80, 0], [0x12, 0, 1]]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_32_bit_pixels_are_stretched_from_least_to_greatest(kind: type) -> None:
    values = np.array([[-1000, 0, 1000]], kind)
    data = file_of(Image.fromarray(values), "TIFF")
    assert decode(data, max_pixels=LIMIT).pixels[0, :, 0].tolist() == [0, 128, 255]


def test_float_pixels_that_are_no_numbers_become_black() -> None:
    values = np.array([[np.nan, 1, 2, np.inf]], np.float32)
    data = file_of(Image.fromarray(values), "TIFF")
    assert decode(data, max_pixels=LIMIT).pixels[0, :, 0].tolist() == [0, 0, 255, 255]


def test_a_constant_float_image_is_black() -> None:
    data = file_of(Image.new("F", (3, 3), 0.7), "TIFF")
    assert not decode(data, max_pixels=LIMIT).pixels.any()


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_is_converted_also_where_adobe_stored_it_inverted(image_format: str) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = file_of(image, image_format)
    assert (b"Adobe" in data) == (image_format == "JPEG")
    assert same(decode(data, max_pixels=LIMIT).pixels, Image.new("RGB", (16, 16), "red"), within=4)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_image_of_an_animation_counts(image_format: str) -> None:
    others = [Image.new("RGB", (40, 24), colour) for colour in ("black", "orange")]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = file_of(corners(), image_format, save_all=True, append_images=others, **options)
    with Image.open(BytesIO(data)) as reopened:
        assert reopened.n_frames == 3
    assert same(decode(data, max_pixels=LIMIT).pixels, corners())
