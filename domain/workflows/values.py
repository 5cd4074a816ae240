"""The values that blocks take, checked: class names, scores, colours."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from domain.workflows.limits import MAX_CLASS_NAME, MAX_MAPPED_CLASSES, Name, at_most

MAX_CLASSES = 16  # prompts that run on one image in one go
MAX_SIDE = 2**20  # pixels; no image that can be decoded is larger

Colour = tuple[int, int, int]  # red, green, blue, 0 to 255

_NAMED: dict[str, Colour] = {
    "WHITE": (255, 255, 255),
    "BLACK": (0, 0, 0),
    "GREY": (128, 128, 128),
    "RED": (255, 0, 0),
    "GREEN": (0, 255, 0),
    "BLUE": (0, 0, 255),
    "YELLOW": (255, 255, 0),
    "ROBOFLOW": (163, 81, 251),
}
_TRIPLE = re.compile(r"(rgb|bgr)?\s*\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)")
_HEX = re.compile(r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")


def _split_classes(value: Any) -> Any:
    if value is None:
        raise ValueError("class names are needed: a list, or one string split at commas")
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple) and len(value) > MAX_CLASSES:
        raise ValueError(f"at most {MAX_CLASSES} class names, not {len(value)}")
    return value


def _check_classes(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(name.strip() for name in names):
        raise ValueError("a class name must not be empty")
    return names


def _read_colour(value: Any) -> Any:
    """Names, `#RGB`, `#RRGGBB`, `rgb(r, g, b)`, `bgr(b, g, r)`, `(r, g, b)` and lists of three."""
    if not isinstance(value, str):
        return value
    if value.upper() in _NAMED:
        return _NAMED[value.upper()]
    if found := _HEX.fullmatch(value):
        digits = found[1] if len(found[1]) == 6 else "".join(2 * digit for digit in found[1])
        return tuple(bytes.fromhex(digits))
    if found := _TRIPLE.fullmatch(value):
        parts = tuple(map(int, found.groups()[1:]))
        return parts[::-1] if found[1] == "bgr" else parts
    raise ValueError("not a colour: use #RRGGBB, rgb(r, g, b), or a name such as WHITE")


_Part = Annotated[int, Field(ge=0, le=255)]

ClassNames = Annotated[
    tuple[Annotated[str, Field(max_length=MAX_CLASS_NAME)], ...],
    BeforeValidator(_split_classes),
    AfterValidator(_check_classes),
]
ClassMapping = Annotated[dict[str, Name], at_most(MAX_MAPPED_CLASSES)]
AnyColour = Annotated[tuple[_Part, _Part, _Part], BeforeValidator(_read_colour)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Pixels = Annotated[int, Field(ge=1, le=MAX_SIDE)]
LineWidth = Annotated[int, Field(ge=1, le=1000)]
