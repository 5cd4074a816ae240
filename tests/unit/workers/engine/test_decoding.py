import struct
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from domain.errors import ImageError, ImageErrorCode
from workers.engine import decoding
from workers.engine.decoding import decode, limit_pixels_at_once

LIMIT = 10_000_000
EXIF_ORIENTATION = 0x0112


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


def noise(image_format: str) -> bytes:
    values = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return file_of(Image.fromarray(values), image_format)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_file_that_is_cut_off_is_reported_as_truncated(image_format: str, share: float) -> None:
    data = noise(image_format)
    assert refused(data[: int(len(data) * share)]) == ImageErrorCode.TRUNCATED


def test_an_empty_file_is_reported_as_truncated() -> None:
    assert refused(b"") == ImageErrorCode.TRUNCATED


@pytest.mark.parametrize(
    "data",
    [
        b"This is not a photograph.\n",
        b"%PDF-1.7 ...",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\x00",
    ],
)
def test_what_is_no_image_is_reported_as_unsupported(data: bytes) -> None:
    assert refused(data) == ImageErrorCode.UNSUPPORTED


def test_damaged_pixel_data_is_reported_as_such() -> None:
    data = bytearray(noise("PNG"))
    data[200:400] = bytes(200)
    assert refused(bytes(data)) == ImageErrorCode.DECODE_ERROR


def test_a_damaged_header_is_reported_as_such() -> None:
    data = bytearray(noise("PNG"))
    data[12:16] = b"JUNK"
    assert refused(bytes(data)) == ImageErrorCode.DECODE_ERROR


def test_a_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    bomb += png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    assert refused(bomb, max_pixels=200_000_000) == ImageErrorCode.TOO_LARGE


def test_the_limit_is_ours_also_above_that_of_pillow() -> None:
    """Warnings are errors in tests: Pillow's own limit would fail this at 89 million pixels."""
    data = file_of(Image.new("1", (10_000, 9_000)), "TIFF", compression="group4")
    assert refused(data, max_pixels=90_000_000 - 1) == ImageErrorCode.TOO_LARGE
    assert decode(data, max_pixels=90_000_000).pixels.shape == (9_000, 10_000, 3)


def test_an_image_of_just_the_limit_is_taken() -> None:
    data = file_of(corners(), "PNG")
    assert decode(data, max_pixels=40 * 24).pixels.shape == (24, 40, 3)
    assert refused(data, max_pixels=40 * 24 - 1) == ImageErrorCode.TOO_LARGE


def test_a_damaged_avif_is_reported_as_such() -> None:
    data = bytearray(noise("AVIF"))
    pixels = data.index(b"mdat") + 4
    data[pixels : pixels + 20] = b"\xff" * 20
    with pytest.raises(RuntimeError), Image.open(BytesIO(data)) as image:
        image.load()
    assert refused(bytes(data)) == ImageErrorCode.DECODE_ERROR


def of_scans(count: int, size: tuple[int, int] = (40, 24)) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are so many."""
    data = file_of(Image.new("RGB", size, "red"), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    scan = data[start : data.rindex(b"\xff\xd9")]
    missing = count - data.count(b"\xff\xda")
    return data[:start] + (1 + missing) * scan + b"\xff\xd9"


def test_a_jpeg_of_very_many_scans_is_refused_unread() -> None:
    assert decode(of_scans(100), max_pixels=LIMIT).pixels.shape == (24, 40, 3)
    assert refused(of_scans(101)) == ImageErrorCode.DECODE_ERROR


def test_the_larger_a_jpeg_the_fewer_scans_it_may_have() -> None:
    pixels = 40 * 24
    assert decode(of_scans(24), max_pixels=pixels).pixels.shape == (24, 40, 3)
    assert refused(of_scans(25), max_pixels=pixels) == ImageErrorCode.DECODE_ERROR
    assert decode(of_scans(48), max_pixels=2 * pixels).pixels.shape == (24, 40, 3)
    assert refused(of_scans(49), max_pixels=2 * pixels) == ImageErrorCode.DECODE_ERROR


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_progressive_jpegs_as_encoders_write_them_may_be_as_large_as_any(mode: str) -> None:
    data = file_of(Image.new(mode, (40, 24)), "JPEG", progressive=True)
    assert decode(data, max_pixels=40 * 24).pixels.shape == (24, 40, 3)


def test_what_looks_like_a_scan_elsewhere_in_a_jpeg_is_none() -> None:
    """In a comment or a thumbnail, or in the film that telephones append."""
    scans = 200 * b"\xff\xda"
    data = file_of(corners(), "JPEG", comment=scans, quality=95, subsampling=0) + scans
    assert decode(data, max_pixels=LIMIT).pixels.shape == (24, 40, 3)


def test_scans_cannot_hide_among_segments_without_number() -> None:
    data = of_scans(200)
    comments = 6000 * b"\xff\xfe\0\2"
    assert refused(data[:2] + comments + data[2:]) == ImageErrorCode.DECODE_ERROR


def tiled_tiff(size: int, *tile_sides: int) -> bytes:
    """A grey TIFF in one deflated tile; each side is written as a tag TileWidth of its own."""
    tile = zlib.compress(bytes(tile_sides[0] ** 2))
    tags = [(256, size), (257, size), (258, 8), (259, 8), (262, 1), (277, 1)]
    tags += [(322, side) for side in tile_sides]
    tags += [(323, tile_sides[0]), (324, 8), (325, len(tile))]
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<L", 8 + len(tile)) + tile + directory


def test_a_tile_may_be_larger_than_its_small_image() -> None:
    assert decode(tiled_tiff(40, 1024), max_pixels=LIMIT).pixels.shape == (40, 40, 3)


def test_tiles_that_dwarf_their_image_are_refused_before_they_are_decoded() -> None:
    data = tiled_tiff(40, 4096)
    assert refused(data, max_pixels=200_000_000) == ImageErrorCode.TOO_LARGE
    assert refused(tiled_tiff(40, 1024), max_pixels=1_000_000) == ImageErrorCode.TOO_LARGE


def test_a_tile_size_cannot_hide_behind_a_second_one() -> None:
    """libtiff takes the first of two tags, Pillow the last."""
    assert refused(tiled_tiff(40, 4096, 64)) == ImageErrorCode.DECODE_ERROR


@pytest.mark.parametrize("big_tiff", [False, True])
def test_the_tags_of_tiffs_of_both_kinds_are_found(big_tiff: bool) -> None:
    data = file_of(corners(), "TIFF", big_tiff=big_tiff)
    assert same(decode(data, max_pixels=LIMIT).pixels, corners())


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
