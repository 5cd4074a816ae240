"""How much a workflow may be, so that one request can take neither a server's memory nor its time.

Texts that a workflow only carries, such as values of parameters, are bounded by the request's size
and, where they come back, by `MAX_OUTPUT_BYTES`.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

MAX_INPUTS = 256
MAX_STEPS = 64
MAX_OUTPUTS = 64
MAX_NAME = 256  # characters
MAX_SELECTOR = 512  # of a step's name, an output's, and what stands around them
MAX_CLASS_NAME = 4096  # the model reads far fewer, and cuts off the rest
MAX_COLOURS = 256
MAX_MAPPED_CLASSES = 1000
MAX_CROPS_OF_CROPS = 2  # lists in lists
MAX_BLOCKS = 4096  # run for one request; a crop of an object counts as one
MAX_OUTPUT_BYTES = 64 * 2**20  # of all outputs together, for all images of a request
MAX_LEVELS = 64  # of lists and objects in each other

Name = Annotated[str, Field(max_length=MAX_NAME)]
Selector = Annotated[str, Field(max_length=MAX_SELECTOR)]


def at_most(most: int) -> BeforeValidator:
    """Of a list or an object, before its elements are looked at: each of them may be wrong."""

    def check(value: Any) -> Any:
        if isinstance(value, list | tuple | dict) and len(value) > most:
            raise ValueError(f"at most {most} are possible, not {len(value)}")
        return value

    return BeforeValidator(check)


def is_too_deep(value: Any) -> bool:
    """Whether JSON has more than `MAX_LEVELS` of lists and objects in each other."""
    level: Sequence[Any] = [value]
    for _ in range(MAX_LEVELS + 1):
        level = [inner for entry in level for inner in _inside(entry)]
        if not level:
            return False
    return True


def _inside(entry: Any) -> Sequence[Any]:
    if isinstance(entry, dict):
        return list(entry.values())
    return entry if isinstance(entry, list) else ()
