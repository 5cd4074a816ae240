"""Files that are damaged, no images, or made to cost much."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from domain.errors import ImageErrorCode
from tests.unit.workers.engine.image_files import LIMIT, corners, file_of, png_chunk, refused, same
from workers.engine.decoding import decode


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
