"""One picture of a result: masks drawn over the images, and what the colours mean."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from domain.annotations import Rle
from domain.overlays import Colour, ColouredMask, class_colour, draw_over

_BACKGROUND, _TILE, _INK, _FAINT = (24, 26, 31), (40, 43, 51), (236, 238, 242), (148, 155, 168)
_GAP, _CAPTION, _LINE = 16, 46, 26  # pixels


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
    colours = {name: class_colour(number) for number, name in enumerate(categories)}
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
    masks = [ColouredMask(found.mask, colours[found.category]) for found in entry.instances]
    picture = draw_over(entry.image, masks, longest_side=tile)
    if picture is None:
        draw.text((tile / 2, tile / 2), "image not available", _FAINT, _font(14), anchor="mm")
    else:
        canvas.paste(picture, ((tile - picture.width) // 2, (tile - picture.height) // 2))
    draw.text((0, tile + 5), _shorten(entry.title, _font(14), tile), _INK, _font(14))
    draw.text((0, tile + 24), _instances_text(len(entry.instances)), _FAINT, _font(13))
    return canvas


def _instances_text(count: int) -> str:
    return "no instances" if count == 0 else f"{count} instance{'s' if count > 1 else ''}"


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
