"""Masks drawn over an image: pictures for people, not for machines."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import ceil, floor

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps
from PIL.TiffImagePlugin import TiffImageFile
from pycocotools import mask as coco_mask

from domain.annotations import Rle
from domain.rle import unroll

Colour = tuple[int, int, int]

# Twelve that stay apart from one another and over photographs; further ones are computed.
_COLOURS: tuple[Colour, ...] = (
    (0, 200, 255), (255, 64, 129), (124, 220, 60), (255, 165, 0), (150, 110, 255), (255, 235, 59),
    (0, 190, 150), (240, 80, 60), (90, 150, 255), (230, 120, 230), (170, 130, 80), (200, 230, 200),
)  # fmt: skip
# Named one by one: Pillow's reader of EPS would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
_MAX_PIXELS = 2**27  # that are decoded: 400 MB; of a large JPEG it is a part
_SCALABLE = {"L", "LA", "RGB", "RGBA", "CMYK"}  # modes of whose pixels there is a mean
_HUNGRY = {"JPEG2000", "WEBP"}  # formats whose decoders keep more than the image
# Measured with 36 million pixels: at most 9 and 19, and a progressive JPEG takes 6 for all of its
# pixels whatever part of them is wanted.
_BYTES_PER_PIXEL, _BYTES_PER_ODD_PIXEL = 16, 28
_MOST_DECODING_BYTES = 3 * 2**30  # 200 million pixels of most formats
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF 6.0, section 15
_GREY = (96, 100, 110)  # of an image that cannot be had
_TINT = 0.45  # how much of a mask's colour covers the image
_RIM = 0.6  # how dark the rim around a mask is
_MARGIN = 3  # pixels around a mask that its rim and outline look at
_QUALITY = 82  # of JPEG: 480 x 480 pixels take some 40 kB


@dataclass(frozen=True, slots=True)
class ColouredMask:
    """`faint`: an outline without a tint."""

    mask: Rle
    colour: Colour
    faint: bool = False


def class_colour(number: int) -> Colour:
    """Of the class with this id, from 0."""
    if number < len(_COLOURS):
        return _COLOURS[number]
    # steps of the golden ratio keep neighbouring hues apart
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1.0, 0.55 + number % 3 * 0.15, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def overlay(content: bytes | None, masks: Sequence[ColouredMask], *, longest_side: int) -> bytes:
    """The image of a file's bytes with its masks, as JPEG; see `draw_over`. A grey square where
    there is neither."""
    picture = draw_over(content, masks, longest_side=longest_side)
    if picture is None:
        picture = Image.new("RGB", (longest_side, longest_side), _GREY)
    return to_jpeg(picture)


def to_jpeg(picture: Image.Image) -> bytes:
    """Nothing goes along of what the file said beside its pixels."""
    out = BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def draw_over(
    content: bytes | None, masks: Sequence[ColouredMask], *, longest_side: int
) -> Image.Image | None:
    """The picture that `read_picture` gives with the masks on it, later ones on top. Where there
    is none, grey of the masks' shape; None without masks too."""
    picture = None if content is None else read_picture(content, longest_side=longest_side)
    if picture is None:
        if not masks:
            return None
        height, width = masks[0].mask.size
        picture = Image.new("RGB", _fit(width, height, longest_side), _GREY)
    for one in masks:
        _draw_mask(picture, one)
    return picture


@dataclass(frozen=True, slots=True)
class Claim:
    """What a file says of itself, before anything is decoded. `decoding_bytes` is the memory that
    `read_picture` takes for it at most."""

    longest_side: int
    decoding_bytes: int


def claim_of(content: bytes) -> Claim | None:
    """None for what is no image."""
    try:
        with Image.open(BytesIO(content), formats=_FORMATS) as image:
            return Claim(max(image.size), _decoding_bytes(image))
    except Exception:  # Pillow's plugins raise anything
        return None


def read_picture(content: bytes, *, longest_side: int) -> Image.Image | None:
    """RGB, upright, resized so that its longer side has that many pixels. None for what cannot be
    read, or is too large: a picture illustrates, and is no reason to fail."""
    try:
        with Image.open(BytesIO(content), formats=_FORMATS) as image:
            if _decoding_bytes(image) > _MOST_DECODING_BYTES:
                return None
            image.draft("RGB", (2 * longest_side, 2 * longest_side))  # JPEG: no more than is shown
            if _pixels(image) > _MAX_PIXELS:
                return None
            if image.mode in _SCALABLE:  # all that follows makes copies
                image.thumbnail((2 * longest_side, 2 * longest_side), Image.Resampling.BOX)
            oriented = _to_rgb(ImageOps.exif_transpose(image))
    except Exception:  # Pillow's plugins raise anything
        return None
    size = _fit(*oriented.size, longest_side)
    return oriented.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _decoding_bytes(image: Image.Image) -> int:
    is_odd = image.mode not in _SCALABLE or image.format in _HUNGRY
    return _pixels(image) * (_BYTES_PER_ODD_PIXEL if is_odd else _BYTES_PER_PIXEL)


def _pixels(image: Image.Image) -> int:
    """That are decoded. Pillow's own limit is gone where the engine runs, and knows nothing of a
    TIFF's tiles."""
    pixels = image.width * image.height
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
        pixels = max(pixels, tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0))
    return pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel
        image = Image.fromarray((np.asarray(image, dtype=np.int64) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _fit(width: int, height: int, longest_side: int) -> tuple[int, int]:
    scale = longest_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _draw_mask(picture: Image.Image, one: ColouredMask) -> None:
    """Tint the mask and draw its outline; a dark rim around keeps like colours apart."""
    part, cover = _cover(one.mask, picture.size)
    rim = ImageChops.subtract(cover.filter(ImageFilter.MaxFilter(3)), cover)
    edge = ImageChops.subtract(cover, cover.filter(ImageFilter.MinFilter(5)))
    paint = Image.new("RGB", cover.size, one.colour)
    below = picture.crop(part)
    below = Image.composite(Image.new("RGB", cover.size), below, _scaled(rim, _RIM))
    tinted = below if one.faint else Image.composite(paint, below, _scaled(cover, _TINT))
    picture.paste(Image.composite(paint, tinted, edge), part)


def _cover(mask: Rle, size: tuple[int, int]) -> tuple[tuple[int, int, int, int], Image.Image]:
    """How much of each pixel of a picture of `size` the mask covers, 0 to 255, in the part (x0, y0,
    x1, y1) of the picture where that is more than nothing. All of a large image's pixels are many:
    only those around the object are looked at."""
    x, y, width, height = coco_mask.toBbox({"size": mask.size, "counts": mask.counts})
    (left, right), columns = _stretch(x, x + width, shown=size[0], stored=mask.size[1])
    (top, bottom), rows = _stretch(y, y + height, shown=size[1], stored=mask.size[0])
    pixels = unroll(mask, (columns.first, rows.first, columns.count, rows.count)) * 255
    exact = (columns.start, rows.start, columns.end, rows.end)
    cover = Image.fromarray(pixels).resize(
        (right - left, bottom - top), Image.Resampling.BOX, box=exact
    )
    return (left, top, right, bottom), cover


@dataclass(frozen=True, slots=True)
class _Stored:
    """Whole pixels, `count` from the `first` on; `start` and `end` are counted from there."""

    first: int
    count: int
    start: float
    end: float


def _stretch(
    start: float, end: float, *, shown: int, stored: int
) -> tuple[tuple[int, int], _Stored]:
    """Along one side: the picture's pixels in which what lies from `start` to `end` is seen, with a
    margin, and the stored pixels below these."""
    scale = stored / shown
    low = max(0, floor(start / scale) - _MARGIN)
    high = min(shown, ceil(end / scale) + _MARGIN)
    first, last = max(0, floor(low * scale) - 1), min(stored, ceil(high * scale) + 1)
    begin, finish = low * scale - first, min(high * scale, stored) - first
    return (low, high), _Stored(first, last - first, begin, finish)


def _scaled(mask: Image.Image, opacity: float) -> Image.Image:
    return mask.point([round(value * opacity) for value in range(256)])
