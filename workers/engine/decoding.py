"""From the bytes of an image file to upright 8-bit RGB pixels."""

import struct
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from domain.errors import ImageError, ImageErrorCode

# Named one by one: Pillow has readers (EPS starts Ghostscript) that must not see strangers' files.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {  # EXIF 2.32, tag Orientation: what puts the pixels upright again
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """`pixels`: HxWx3 uint8, RGB, C-contiguous, upright. `orientation`: the EXIF tag, 1 to 8."""

    pixels: np.ndarray
    orientation: int


def decode(data: bytes, *, max_pixels: int) -> DecodedImage:
    """Decode the first frame, put it upright and make it 8-bit RGB.

    - EXIF orientation is applied, whatever the format.
    - Transparency (RGBA, grey with alpha, palette, a transparent colour) is laid on white.
    - Palette, grey and 1-bit pixels become RGB; CMYK by Pillow's plain conversion, without
      colour profiles, and with Adobe's inverted values in a JPEG set right.
    - 16-bit channels keep their upper 8 bits.
    - 32-bit integer and float pixels have no range of their own: the image's least to greatest
      finite value is stretched over 0 to 255; a constant image and NaN become 0.
    - Of an animation (GIF, WebP, APNG) or a file of several pages, the first image counts.

    Raises ImageError: `truncated` (bytes are missing, or there are none), `unsupported` (not an
    image format we read), `too_large` (more than `max_pixels`, by the header, before any pixel
    is decoded), `decode_error` (damaged), `out_of_memory`.
    """
    if not data:
        raise ImageError(ImageErrorCode.TRUNCATED, "the file is empty")
    # Replaces Pillow's own limit (a warning, then a fixed bound) by the check in _check_size.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as image:
            _check_size(image.size, max_pixels)
            return _decode_upright(image)
    except UnidentifiedImageError as error:
        raise _unreadable(data) from error
    except MemoryError as error:
        raise ImageError(ImageErrorCode.OUT_OF_MEMORY, "no memory to decode the image") from error
    except _BROKEN as error:
        raise _damaged(data, error) from error


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        message = f"{width} x {height} pixels, more than the limit of {max_pixels}"
        raise ImageError(ImageErrorCode.TOO_LARGE, message)


def _decode_upright(image: Image.Image) -> DecodedImage:
    # Pillow turns TIFFs upright itself while loading and forgets the tag, so read theirs before.
    turned_by_pillow = image.format == "TIFF"
    orientation = _orientation(image) if turned_by_pillow else 1
    image.load()
    if not turned_by_pillow:
        orientation = _orientation(image)
    rgb = _to_rgb(image)
    if not turned_by_pillow and orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    return DecodedImage(np.array(rgb), orientation)


def _orientation(image: Image.Image) -> int:
    """1 where there is none or its EXIF block is damaged: the pixels may be fine all the same."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except (*_BROKEN, Warning):
        return 1
    return value if value in _UPRIGHT else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey_to_rgb((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        return _grey_to_rgb(_stretch(np.asarray(image, dtype=np.float64)))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _grey_to_rgb(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = values[finite].min(), values[finite].max()
    scaled = (np.clip(values, low, high) - low) * (255.0 / max(high - low, 1e-300))
    stretched: np.ndarray = np.nan_to_num(scaled).round().astype(np.uint8)
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
