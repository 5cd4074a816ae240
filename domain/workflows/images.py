"""Where the images lie in a request's inputs, so that their bytes can travel apart from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.workflows.errors import image_error, input_error
from domain.workflows.plan import Plan


@dataclass(frozen=True, slots=True)
class ImageValue:
    """One image as the client sent it. `value` is base64, or a URL where it starts with http:// or
    https://; `name` tells it in errors, `image` or, in a list, `image.[1]`."""

    input: str
    place: int | None
    value: str

    @property
    def name(self) -> str:
        return image_name(self.input, self.place)

    @property
    def is_url(self) -> bool:
        return self.value.startswith(("http://", "https://"))


def image_name(input_name: str, place: int | None) -> str:
    return input_name if place is None else f"{input_name}.[{place}]"


def image_values(plan: Plan, inputs: Mapping[str, Any]) -> tuple[ImageValue, ...]:
    """The images of all image inputs, in order. Raises WorkflowError: neither a string nor an
    object with a string as `value`."""
    return tuple(
        ImageValue(name, place, _text(element, image_name(name, place)))
        for name in plan.images
        for place, element in _elements(inputs[name])
    )


def with_file_numbers(
    plan: Plan, inputs: Mapping[str, Any], numbers: Sequence[int]
) -> dict[str, Any]:
    """The declared inputs, with a number in the place of each image, in the order of
    `image_values`."""
    remaining = iter(numbers)
    replaced = {
        name: [next(remaining) for _ in inputs[name]]
        if isinstance(inputs[name], list)
        else next(remaining)
        for name in plan.images
    }
    return {name: inputs[name] for name in plan.parameters if name in inputs} | replaced


def check_image_inputs(names: Sequence[str], inputs: Mapping[str, Any]) -> int:
    """The number of images in each input, or that it stands for.

    Raises WorkflowError: an image is missing or null, a list is empty, nested, or of another
    length than another's.
    """
    sizes = {name: _size(name, inputs.get(name)) for name in names}
    largest = max(sizes.values(), default=1)
    for name, size in sizes.items():
        if size not in (1, largest):
            raise input_error(
                f"Expected all image inputs to have the same length, or length 1: `{name}` has "
                f"{size} images where another has {largest}"
            )
    return largest


def _size(name: str, value: Any) -> int:
    if value is None:
        raise input_error(f"The image input `{name}` is declared, but no value is provided")
    if not isinstance(value, list):
        return 1
    if not value:
        raise input_error(f"The image input `{name}` is an empty list")
    for place, element in enumerate(value):
        if element is None or isinstance(element, list):
            what = "a list in a list" if element is not None else "null"
            raise image_error(image_name(name, place), f"An image is needed, not {what}.")
    return len(value)


def _elements(value: Any) -> list[tuple[int | None, Any]]:
    return list(enumerate(value)) if isinstance(value, list) else [(None, value)]


def _text(element: Any, name: str) -> str:
    value = element.get("value") if isinstance(element, dict) else element
    if not isinstance(value, str):
        raise image_error(name, "Neither base64 nor a URL.")
    if not value:
        raise image_error(name, "Empty image payload.")
    return value
