import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageFilter

from domain import overlays
from domain.overlays import (
    Claim,
    ColouredMask,
    claim_of,
    class_colour,
    draw_over,
    overlay,
    read_picture,
)
from tests.unit.domain.any_masks import encoded, masks

# pycocotools 2.0.11 has not followed numpy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RED = (255, 0, 0)


def file_of(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


def drawn_plainly(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    """As `draw_over` does it, with all pixels of the mask."""
    cover = Image.fromarray(mask * 255).resize(picture.size, Image.Resampling.BOX)
    rim = ImageChops.subtract(cover.filter(ImageFilter.MaxFilter(3)), cover)
    edge = ImageChops.subtract(cover, cover.filter(ImageFilter.MinFilter(5)))
    paint, black = (Image.new("RGB", picture.size, colour) for colour in (RED, "black"))
    rimmed = Image.composite(black, picture, rim.point([round(v * 0.6) for v in range(256)]))
    tint = cover.point([round(v * 0.45) for v in range(256)])
    return Image.composite(paint, Image.composite(paint, rimmed, tint), edge)


@settings(deadline=None, max_examples=150)
@given(masks(size=(48, 72)), st.sampled_from([12, 24, 36, 72, 144]))  # scales without rounding
def test_looking_only_where_the_object_is_draws_the_same_picture(
    mask: np.ndarray, longest_side: int
) -> None:
    rle, _ = encoded(mask)
    content = file_of(Image.effect_noise((mask.shape[1], mask.shape[0]), 90))
    plain = read_picture(content, longest_side=longest_side)
    drawn = draw_over(content, [ColouredMask(rle, RED)], longest_side=longest_side)
    assert plain is not None
    assert drawn is not None
    assert np.array_equal(np.asarray(drawn), np.asarray(drawn_plainly(plain, mask)))


def test_an_overlay_is_a_jpeg_whose_longer_side_is_as_asked() -> None:
    rle, _ = encoded(np.ones((50, 100), np.uint8))
    content = file_of(Image.new("RGB", (100, 50), "blue"))
    with Image.open(io.BytesIO(overlay(content, [ColouredMask(rle, RED)], longest_side=64))) as it:
        assert (it.format, it.size) == ("JPEG", (64, 32))
        red, _, blue = it.getpixel((32, 16))
    assert red == pytest.approx(0.45 * 255, abs=6)
    assert blue == pytest.approx(0.55 * 255, abs=6)


def test_a_faint_mask_is_an_outline_alone() -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[16:48, 16:48] = 1
    mask = ColouredMask(encoded(pixels)[0], RED, faint=True)
    drawn = draw_over(file_of(Image.new("RGB", (64, 64), "blue")), [mask], longest_side=64)
    assert drawn is not None
    assert drawn.getpixel((32, 32)) == (0, 0, 255)
    assert drawn.getpixel((16, 32)) == RED


def test_what_cannot_be_read_is_no_picture_and_its_overlay_is_grey() -> None:
    for content in (b"", b"nothing", file_of(Image.new("RGB", (64, 64)))[:60]):
        assert read_picture(content, longest_side=32) is None
    with Image.open(io.BytesIO(overlay(b"nothing", [], longest_side=32))) as grey:
        assert grey.size == (32, 32)


def test_images_of_too_many_pixels_are_not_decoded_whatever_pillows_limit_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as the engine leaves it
    monkeypatch.setattr(overlays, "_MAX_PIXELS", 100 * 100)
    assert read_picture(file_of(Image.new("1", (100, 100))), longest_side=32) is not None
    assert read_picture(file_of(Image.new("1", (100, 101))), longest_side=32) is None


def test_a_large_jpeg_is_decoded_at_the_size_at_which_it_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlays, "_MAX_PIXELS", 100 * 100)
    content = file_of(Image.new("RGB", (400, 400), "blue"), "JPEG")
    assert read_picture(content, longest_side=32) is not None


def tiled_tiff(tile_side: int) -> bytes:
    """40 x 40 grey pixels in one deflated tile."""
    tile = zlib.compress(bytes(tile_side**2))
    tags = [(256, 40), (257, 40), (258, 8), (259, 8), (262, 1), (277, 1)]
    tags += [(322, tile_side), (323, tile_side), (324, 8), (325, len(tile))]
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<L", 8 + len(tile)) + tile + directory


def test_tiles_that_dwarf_their_tiff_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlays, "_MAX_PIXELS", 1000 * 1000)
    assert read_picture(tiled_tiff(992), longest_side=32) is not None
    assert read_picture(tiled_tiff(1008), longest_side=32) is None


def test_classes_have_colours_of_their_own() -> None:
    assert len({class_colour(number) for number in range(60)}) == 60


def test_what_a_file_claims_is_known_before_it_is_decoded() -> None:
    for mode, per_pixel in (("RGB", 16), ("L", 16), ("P", 28), ("I;16", 28)):
        claim = claim_of(file_of(Image.new(mode, (100, 40))))
        assert claim == Claim(100, 100 * 40 * per_pixel), mode
    assert claim_of(file_of(Image.new("RGB", (10, 9)), "WEBP")) == Claim(10, 10 * 9 * 28)
    cut = file_of(Image.new("RGB", (900, 700)))[:60]
    assert claim_of(cut) == Claim(900, 900 * 700 * 16)
    assert claim_of(tiled_tiff(1008)).decoding_bytes >= 1008 * 1008 * 16
    for content in (b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        assert claim_of(content) is None
