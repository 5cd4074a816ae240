"""From the bytes of an image file to upright 8-bit RGB pixels."""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from threading import Condition

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from domain.errors import ImageError, ImageErrorCode

# Named one by one: Pillow has readers (EPS starts Ghostscript) that must not see strangers' files.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
_32_BIT_MODES = ("I", "F")
_EXIF_ORIENTATION = 0x0112
# EXIF 2.32, tag Orientation: what puts the pixels, H x W x 3, upright again
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored[::-1].transpose(1, 0, 2),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: stored[:, ::-1].transpose(1, 0, 2),
}
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF 6.0, section 15
# Each scan of a JPEG passes over the whole image. Progressive ones have about ten, CMYK's 18.
_MAX_SCANS = 100
_MAX_SCANS_OF_LARGEST = 24  # of an image of just `max_pixels`
_MAX_SEGMENTS = 5000
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9  # ITU-T T.81, table B.1
_MARKER = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")  # none that stand within a scan's bytes
_SMALL_TILE_PIXELS = 2**22  # is fine whatever the image
_PIXELS_AT_ONCE = 2**20
_SMALL_PIXELS = 2**22  # images of so few wait for none


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """`pixels`: HxWx3 uint8, RGB, C-contiguous, upright. `orientation`: the EXIF tag, 1 to 8."""

    pixels: np.ndarray
    orientation: int


class _Room:
    """For `pixels` of large images at the same time; others wait. None: for any number."""

    def __init__(self) -> None:
        self.pixels: int | None = None
        self._taken = 0
        self._changed = Condition()

    @contextmanager
    def taken(self, image: Image.Image) -> Iterator[None]:
        pixels = image.width * image.height
        if pixels <= _SMALL_PIXELS:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._has(pixels))
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()

    def _has(self, pixels: int) -> bool:
        return self.pixels is None or not self._taken or self._taken + pixels <= self.pixels


_room = _Room()


def limit_pixels_at_once(pixels: int | None) -> None:
    """So many pixels of images are decoded at the same time in this process, whoever asks; one
    image always is, and those of up to 4 megapixels are not counted. None: no limit."""
    _room.pixels = pixels


def decode(data: bytes, *, max_pixels: int) -> DecodedImage:
    """Decode the first frame, put it upright and make it 8-bit RGB.

    - EXIF orientation is applied, whatever the format.
    - Transparency (RGBA, grey with alpha, palette, a transparent colour) is laid on white.
    - Palette, grey and 1-bit pixels become RGB; CMYK by Pillow's plain conversion, without
      colour profiles, and with Adobe's inverted values in a JPEG set right.
    - 16-bit channels keep their upper 8 bits.
    - 32-bit integer and float pixels have no range of their own: the image's least to greatest
      finite value is stretched over 0 to 255; a constant image and NaN become 0. As they need
      more memory, a quarter of `max_pixels` is their limit.
    - Of an animation (GIF, WebP, APNG) or a file of several pages, the first image counts.

    Raises ImageError: `truncated` (bytes are missing, or there are none), `unsupported` (not an
    image format we read), `too_large` (more than `max_pixels`, by the header, before any pixel
    is decoded; so are a TIFF's tiles that dwarf it), `decode_error` (damaged, or a JPEG of
    absurdly many scans: more than 100, or than an image of `max_pixels` with 24 has to pass
    over), `out_of_memory`.
    """
    if not data:
        raise ImageError(ImageErrorCode.TRUNCATED, "the file is empty")
    # Replaces Pillow's own limit (a warning, then a fixed bound) by the check in _check_size.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as image:
            _check_size(image, max_pixels)
            if isinstance(image, TiffImageFile):
                _check_tiles(image, data, max_pixels)
            if data.startswith(b"\xff\xd8"):
                _check_scans(image, data, max_pixels)
            with _room.taken(image):
                return _decode_upright(image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise _unreadable(data) from error
    except MemoryError as error:
        raise ImageError(ImageErrorCode.OUT_OF_MEMORY, "no memory to decode the image") from error
    except Exception as error:  # Pillow's plugins raise anything, AVIF's RuntimeError
        raise _damaged(data, error) from error


def _check_scans(image: Image.Image, data: bytes, max_pixels: int) -> None:
    pixels = image.width * image.height
    limit = min(_MAX_SCANS, _MAX_SCANS_OF_LARGEST * max_pixels // max(pixels, 1))
    if data.count(b"\xff\xda") > limit and _scan_count(data) > limit:
        raise ImageError(ImageErrorCode.DECODE_ERROR, f"too many scans, more than {limit}")


def _scan_count(data: bytes) -> int:
    """Of the first image in the file: telephones put films behind it, with anything in them."""
    scans, end = 0, 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, end)
        if found is None or found[1][0] == _END_OF_IMAGE:
            return scans
        scans += found[1][0] == _START_OF_SCAN
        end = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    raise ImageError(ImageErrorCode.DECODE_ERROR, f"more than {_MAX_SEGMENTS} segments")


def _check_size(image: Image.Image, max_pixels: int) -> None:
    limit = max_pixels // 4 if image.mode in _32_BIT_MODES else max_pixels
    if image.width * image.height > limit:
        message = f"{image.width} x {image.height} pixels, more than the limit of {limit}"
        raise ImageError(ImageErrorCode.TOO_LARGE, message)


def _check_tiles(image: TiffImageFile, data: bytes, max_pixels: int) -> None:
    """A tile is decoded whole, however little of it the image shows. Strips end with the image."""
    tags = _tiff_tags(data)
    if max(tags.count(_TILE_WIDTH), tags.count(_TILE_LENGTH)) > 1:
        # Pillow takes the last of them, libtiff the first.
        raise ValueError("the size of tiles stands there twice")
    width, height = (int(image.tag_v2.get(tag, 0)) for tag in (_TILE_WIDTH, _TILE_LENGTH))
    limit = min(max_pixels, max(4 * image.width * image.height, _SMALL_TILE_PIXELS))
    if width * height > limit:
        message = f"tiles of {width} x {height} pixels for {image.width} x {image.height}"
        raise ImageError(ImageErrorCode.TOO_LARGE, message)


def _tiff_tags(data: bytes) -> list[int]:
    """Of the first directory, as they stand in the file (TIFF 6.0, section 2; BigTIFF)."""
    order = "<" if data.startswith(b"II") else ">"
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    offset_at, offset_as, count_as, entry_size = (8, "Q", "Q", 20) if is_big else (4, "L", "H", 12)
    (start,) = struct.unpack_from(order + offset_as, data, offset_at)
    (count,) = struct.unpack_from(order + count_as, data, start)
    first = start + struct.calcsize(order + count_as)
    last = min(first + count * entry_size, len(data) - 1)
    return [struct.unpack_from(f"{order}H", data, at)[0] for at in range(first, last, entry_size)]


def _decode_upright(image: Image.Image) -> DecodedImage:
    # Pillow turns TIFFs upright itself while loading and forgets the tag, so read theirs before.
    turned_by_pillow = image.format == "TIFF"
    orientation = exif_orientation(image) if turned_by_pillow else 1
    image.load()
    if not turned_by_pillow:
        orientation = exif_orientation(image)
    pixels = _rgb_pixels(image)
    if not turned_by_pillow and orientation in _UPRIGHT:
        pixels = np.ascontiguousarray(_UPRIGHT[orientation](pixels))
    return DecodedImage(pixels, orientation)


def exif_orientation(image: Image.Image) -> int:
    """1 where there is none or its EXIF block is damaged: the pixels may be fine all the same."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:
        return 1
    return value if value in _UPRIGHT else 1


def _rgb_pixels(image: Image.Image) -> np.ndarray:
    """H x W x 3 uint8. Strip by strip, as each conversion makes copies."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    if image.mode in _32_BIT_MODES:
        pixels[:] = _stretch(np.asarray(image))[..., None]
        return pixels
    rows = max(1, _PIXELS_AT_ONCE // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = image.crop((0, top, image.width, bottom))
        pixels[top:bottom] = np.asarray(_to_rgb(strip))
    return pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    """Piece by piece: float64, which all of int32 and float32 fit, takes eight bytes a pixel."""
    stretched = np.zeros(values.shape, np.uint8)
    count = values.size // _PIXELS_AT_ONCE + 1
    pieces = np.array_split(values.reshape(-1), count)
    finite = (piece[np.isfinite(piece)] for piece in pieces)
    ranges = [(float(piece.min()), float(piece.max())) for piece in finite if piece.size]
    if not ranges:
        return stretched
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    factor = 255.0 / max(high - low, 1e-300)
    for piece, target in zip(pieces, np.array_split(stretched.reshape(-1), count), strict=True):
        scaled = (np.clip(piece.astype(np.float64), low, high) - low) * factor
        target[:] = np.nan_to_num(scaled).round()
    return stretched


def _unreadable(data: bytes) -> ImageError:
    """No reader took the file: either no image at all, or one whose header is broken."""
    if any(_has_magic_of(name, data) for name in _FORMATS):
        return _damaged(data, ValueError("the header cannot be read"))
    return ImageError(ImageErrorCode.UNSUPPORTED, "not an image format that is read here")


def _has_magic_of(name: str, data: bytes) -> bool:
    _, accepts = Image.OPEN.get(name, (None, None))
    return accepts is not None and accepts(data[:16]) is True


def _damaged(data: bytes, error: Exception) -> ImageError:
    code = ImageErrorCode.TRUNCATED if _is_cut(data, error) else ImageErrorCode.DECODE_ERROR
    return ImageError(code, str(error) or type(error).__name__)


def _is_cut(data: bytes, error: Exception) -> bool:
    """Whether the end is missing. Readers seldom say so, the formats' end marks do."""
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data[-64:]
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    if data.startswith(b"RIFF") and len(data) >= 8:
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return isinstance(error, EOFError) or "truncated" in str(error).lower()
