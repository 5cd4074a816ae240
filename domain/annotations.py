"""The answer for an image: instances, or why there are none."""

from dataclasses import dataclass

from domain.errors import ImageErrorCode


@dataclass(frozen=True, slots=True)
class Rle:
    """COCO run lengths, column by column, compressed to ASCII; `size` is (height, width)."""

    size: tuple[int, int]
    counts: bytes


@dataclass(frozen=True, slots=True)
class Instance:
    """One mask. `box` is the mask's own (x, y, width, height) in pixels, `area` its pixel count."""

    prompt_index: int
    category: str
    score: float
    box: tuple[float, float, float, float]
    area: int
    mask: Rle


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """What became of one image.

    `width` and `height` are those of the oriented image (EXIF orientation applied);
    `orientation` is the EXIF tag as found, 1 where there was none. With an `error_code` there
    are no instances, and sizes are 0 where the image could not be read so far.
    `saturated_prompts` are those whose kept count is near the network's number of queries.
    """

    width: int = 0
    height: int = 0
    orientation: int = 1
    instances: tuple[Instance, ...] = ()
    saturated_prompts: tuple[int, ...] = ()
    error_code: ImageErrorCode | None = None
    error_message: str | None = None
    milliseconds: float = 0.0

    @property
    def succeeded(self) -> bool:
        return self.error_code is None


def failure(code: ImageErrorCode, message: str) -> ImageOutcome:
    return ImageOutcome(error_code=code, error_message=message)
