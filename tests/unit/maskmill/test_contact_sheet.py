import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from domain.annotations import Rle
from maskmill.contact_sheet import SheetEntry, SheetInstance, draw_contact_sheet

# pycocotools 2.0.11 has not followed numpy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TILE = 128
FIRST = (0, 200, 255)  # the colour of the first category


def png(width: int, height: int, colour: str = "black", **save: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "PNG", **save)
    return out.getvalue()


def rectangle(width: int, height: int, box: tuple[int, int, int, int]) -> Rle:
    mask = np.zeros((height, width), np.uint8)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    return Rle((height, width), rle["counts"])


def draw(path: Path, *entries: SheetEntry, categories: tuple[str, ...] = ("thing",)) -> np.ndarray:
    draw_contact_sheet(entries, path, categories=categories, heading="a heading", tile=TILE)
    with Image.open(path) as sheet:
        assert sheet.mode == "RGB"
        return np.asarray(sheet).astype(int)


def where(pixels: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of exactly this colour, legend excluded."""
    below = pixels[90:]
    rows, columns = np.nonzero((below == colour).all(axis=-1))
    return rows + 90, columns


def test_a_mask_is_outlined_in_its_categorys_colour_at_its_place(tmp_path: Path) -> None:
    entry = SheetEntry(
        "a.png", png(256, 256), [SheetInstance("thing", rectangle(256, 256, (128, 128, 256, 256)))]
    )
    pixels = draw(tmp_path / "sheet.png", entry)
    rows, columns = where(pixels, FIRST)
    # half of a 128 pixel tile, in its lower right corner
    assert np.ptp(rows) + 1 == pytest.approx(TILE / 2, abs=2)
    assert np.ptp(columns) + 1 == pytest.approx(TILE / 2, abs=2)
    assert columns.min() == pytest.approx(16 + TILE / 2, abs=2)
    inside = pixels[(rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2]
    assert inside.tolist() == pytest.approx([0, 90, 115], abs=2)  # tinted, not covered


def test_categories_have_colours_of_their_own_and_stand_in_the_legend(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(30))
    pixels = draw(tmp_path / "sheet.png", SheetEntry("a", None, []), categories=names)
    swatches = np.unique(pixels.reshape(-1, 3), axis=0)
    vivid = swatches[np.ptp(swatches, axis=1) > 20]  # text is grey
    assert len(vivid) >= 30


def test_masks_of_an_exif_rotated_image_are_drawn_on_the_oriented_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored 200x100, shown 100x200
    stored = png(200, 100, "white", exif=exif)
    entry = SheetEntry(
        "a.png", stored, [SheetInstance("thing", rectangle(100, 200, (0, 100, 100, 200)))]
    )
    pixels = draw(tmp_path / "sheet.png", entry)
    rows, columns = where(pixels, FIRST)
    assert np.ptp(columns) + 1 == pytest.approx(TILE / 2, abs=2)
    white_rows, white_columns = where(pixels, (255, 255, 255))
    assert white_rows.max() < rows.min()
    assert np.ptp(white_columns) + 1 == pytest.approx(TILE / 2, abs=2)


def damaged_avif() -> bytes:
    """Pillow raises RuntimeError."""
    out = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(out, "AVIF")
    content = bytearray(out.getvalue())
    pixels = content.index(b"mdat") + 4
    content[pixels : pixels + 20] = b"\xff" * 20
    return bytes(content)


def postscript() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "EPS")
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [None, b"", b"not an image", png(64, 64)[:60], damaged_avif(), postscript()],
    ids=["none", "empty", "text", "cut", "avif", "postscript"],
)
def test_masks_are_drawn_on_grey_where_the_image_cannot_be_had(
    tmp_path: Path, content: bytes | None
) -> None:
    mask = rectangle(64, 64, (8, 8, 56, 56))
    pixels = draw(tmp_path / "sheet.png", SheetEntry("a", content, [SheetInstance("thing", mask)]))
    assert where(pixels, FIRST)[0].size > 100
    assert where(pixels, (96, 100, 110))[0].size > 100


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "I;16", "1", "F"])
def test_images_of_every_mode_are_drawn(tmp_path: Path, mode: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (40, 20)).save(out, "TIFF")
    pixels = draw(tmp_path / "sheet.png", SheetEntry("a", out.getvalue(), []))
    assert pixels.shape[1] > TILE
    assert where(pixels, (148, 155, 168))[0].size < 200  # no "image not available"


def test_sixteen_bit_images_keep_their_contrast(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(np.full((64, 64), 0x8000, np.uint16)).save(out, "PNG")
    pixels = draw(tmp_path / "sheet.png", SheetEntry("a", out.getvalue(), []))
    assert where(pixels, (128, 128, 128))[0].size > 100 * TILE


def test_a_sheet_of_nothing_is_a_picture_too(tmp_path: Path) -> None:
    assert draw(tmp_path / "sheet.png").shape[0] > 40


def test_more_images_make_more_rows_and_any_name_fits(tmp_path: Path) -> None:
    entries = [SheetEntry("süß/図" * 50, None, []) for _ in range(5)]
    one, two = draw(tmp_path / "1.png", *entries[:4]), draw(tmp_path / "2.png", *entries)
    assert one.shape[1] == two.shape[1]
    assert two.shape[0] - one.shape[0] > TILE


def test_postscript_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: started.append(a))
    draw(tmp_path / "sheet.png", SheetEntry("a", postscript(), []))
    assert not started
