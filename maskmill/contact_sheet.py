"""One picture of a result: masks drawn over the images, and what the colours mean."""

import colorsys
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import (
    Image,
    ImageChops,
    ImageDraw,
    ImageFilter,
    ImageFont,
    ImageOps,
)
from pycocotools import mask as coco_mask

from domain.annotations import Rle

Colour = tuple[int, int, int]

# Twelve that stay apart from one another and over photographs; further ones are computed.
_COLOURS: tuple[Colour, ...] = (
    (0, 200, 255), (255, 64, 129), (124, 220, 60), (255, 165, 0), (150, 110, 255), (255, 235, 59),
    (0, 190, 150), (240, 80, 60), (90, 150, 255), (230, 120, 230), (170, 130, 80), (200, 230, 200),
)  # fmt: skip
_BACKGROUND, _TILE, _INK, _FAINT = (24, 26, 31), (40, 43, 51), (236, 238, 242), (148, 155, 168)
# Named one by one: Pillow's reader of EPS would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
_GAP, _CAPTION, _LINE = 16, 46, 26  # pixels
_TINT = 0.45  # how much of a mask's colour covers the image
_RIM = 0.6  # how dark the rim around a mask is


@dataclass(frozen=True, slots=True)
class SheetInstance:
    category: str
    mask: Rle


@dataclass(frozen=True, slots=True)
class SheetEntry:
    """An image and its instances; `image` holds a file's bytes, None where it cannot be had."""

    title: str
    image: bytes | None
    instances: Sequence[SheetInstance]


def draw_contact_sheet(
    entries: Sequence[SheetEntry],
    path: Path,
    *,
    categories: Sequence[str],
    heading: str,
    columns: int = 4,
    tile: int = 256,
) -> None:
    """Write a picture of square tiles, `tile` pixels wide, in the format of the path's suffix.

    The legend lists `categories`, which must name those of all instances, with their counts.
    """
    colours = {name: _colour(number) for number, name in enumerate(categories)}
    columns = max(2, min(columns, len(entries)))
    width = columns * (tile + _GAP) + _GAP
    legend = _draw_legend(_count(entries), colours, width=width, heading=heading)
    rows = -(-len(entries) // columns)
    sheet = Image.new("RGB", (width, legend.height + rows * (tile + _CAPTION + _GAP)), _BACKGROUND)
    sheet.paste(legend)
    for number, entry in enumerate(entries):
        row, column = divmod(number, columns)
        x, y = _GAP + column * (tile + _GAP), legend.height + row * (tile + _CAPTION + _GAP)
        sheet.paste(_draw_tile(entry, colours, tile=tile), (x, y))
    sheet.save(path)


def _colour(number: int) -> Colour:
    if number < len(_COLOURS):
        return _COLOURS[number]
    # steps of the golden ratio keep neighbouring hues apart
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1.0, 0.55 + number % 3 * 0.15, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _count(entries: Sequence[SheetEntry]) -> Counter[str]:
    return Counter(found.category for entry in entries for found in entry.instances)


def _draw_legend(
    counts: Counter[str], colours: dict[str, Colour], *, width: int, heading: str
) -> Image.Image:
    """Heading and swatches, as high as they need; swatches wrap."""
    font, places = _font(15), []
    x, y = _GAP, _GAP + 34
    for name, colour in colours.items():
        text = _shorten(f"{name}  {counts[name]}", font, width - 2 * _GAP - 22)
        needed = 22 + round(font.getlength(text))
        if x > _GAP and x + needed > width - _GAP:
            x, y = _GAP, y + _LINE
        places.append((x, y, text, colour))
        x += needed + 20
    legend = Image.new("RGB", (width, y + (_LINE if places else 0) + 8), _BACKGROUND)
    draw = ImageDraw.Draw(legend)
    draw.text((_GAP, _GAP), _shorten(heading, _font(20), width - 2 * _GAP), _INK, _font(20))
    for left, top, text, colour in places:
        draw.rounded_rectangle((left, top + 3, left + 14, top + 17), 3, colour)
        draw.text((left + 22, top), text, _INK, font)
    return legend


def _draw_tile(entry: SheetEntry, colours: dict[str, Colour], *, tile: int) -> Image.Image:
    canvas = Image.new("RGB", (tile, tile + _CAPTION), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, tile - 1, tile - 1), _TILE)
    picture = _picture(entry, tile)
    if picture is None:
        draw.text((tile / 2, tile / 2), "image not available", _FAINT, _font(14), anchor="mm")
    else:
        for found in entry.instances:
            picture = _draw_mask(picture, found.mask, colours[found.category])
        canvas.paste(picture, ((tile - picture.width) // 2, (tile - picture.height) // 2))
    draw.text((0, tile + 5), _shorten(entry.title, _font(14), tile), _INK, _font(14))
    draw.text((0, tile + 24), _instances_text(len(entry.instances)), _FAINT, _font(13))
    return canvas


def _instances_text(count: int) -> str:
    return "no instances" if count == 0 else f"{count} instance{'s' if count > 1 else ''}"


def _picture(entry: SheetEntry, tile: int) -> Image.Image | None:
    """The oriented image, fitted into the tile; without an image, grey of the masks' shape."""
    try:
        if entry.image is not None:
            return _read_oriented(entry.image, tile)
    except Exception:  # noqa: S110 - Pillow's plugins raise anything
        pass  # the picture is an illustration: one that cannot be drawn is no reason to fail
    if not entry.instances:
        return None
    height, width = entry.instances[0].mask.size
    return Image.new("RGB", _fit(width, height, tile), (96, 100, 110))


def _read_oriented(content: bytes, tile: int) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        image.draft("RGB", (2 * tile, 2 * tile))  # JPEG: decode no more than is shown
        oriented = _to_rgb(ImageOps.exif_transpose(image))
    return oriented.resize(_fit(*oriented.size, tile), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel
        image = Image.fromarray((np.asarray(image, dtype=np.int64) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _fit(width: int, height: int, tile: int) -> tuple[int, int]:
    scale = tile / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _draw_mask(picture: Image.Image, mask: Rle, colour: Colour) -> Image.Image:
    """Tint the mask and draw its outline; a dark rim around keeps like colours apart."""
    pixels = coco_mask.decode({"size": list(mask.size), "counts": mask.counts})
    cover = Image.fromarray(pixels * 255).resize(picture.size, Image.Resampling.BOX)
    rim = ImageChops.subtract(cover.filter(ImageFilter.MaxFilter(3)), cover)
    edge = ImageChops.subtract(cover, cover.filter(ImageFilter.MinFilter(5)))
    paint = Image.new("RGB", picture.size, colour)
    picture = Image.composite(Image.new("RGB", picture.size), picture, _scaled(rim, _RIM))
    tinted = Image.composite(paint, picture, _scaled(cover, _TINT))
    return Image.composite(paint, tinted, edge)


def _scaled(mask: Image.Image, opacity: float) -> Image.Image:
    return mask.point([round(value * opacity) for value in range(256)])


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Cut out the middle, so that a path's start and the file's name stay."""
    text = _plain(text)
    if font.getlength(text) <= width:
        return text
    keep = len(text) - 1
    while keep > 1 and font.getlength(_cut(text, keep)) > width:
        keep -= 1
    return _cut(text, keep)


def _plain(text: str) -> str:
    """Pillow's own font has ASCII only: letters lose their accents, others become '?'."""
    letters = [c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)]
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in letters)


def _cut(text: str, keep: int) -> str:
    head = keep // 3
    return f"{text[:head]}...{text[len(text) - (keep - head) :]}"
