"""What the pipeline is asked to do with one image; without torch, for those that only ask."""

from collections.abc import Callable
from dataclasses import dataclass

from domain.prompts import Prompt


@dataclass(frozen=True, slots=True)
class ImageTask:
    """`load` fetches the file's bytes. An ImageError it raises becomes the image's outcome; any
    other exception ends the run. Prompts are numbered from `first_prompt_index`. `name` is the
    image as the user wrote it."""

    load: Callable[[], bytes]
    prompts: tuple[Prompt, ...]
    first_prompt_index: int = 0
    name: str = ""
