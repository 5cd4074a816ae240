"""What to look for. A job has text prompts; a manifest item may bring prompts of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.errors import InvalidRequest
from domain.geometry import Box, Point

MAX_JOB_PROMPTS = 256
MAX_ITEM_PROMPTS = 256
PROMPTS_PER_PASS = 16  # SAM 3 servers take up to 16 prompts on one image embedding
VISUAL_TEXT = "visual"  # SAM 3's word where no text says what is sought
TEXTLESS_CLASS = "object"  # class of a prompt that has neither text nor class name


@dataclass(frozen=True, slots=True)
class ConceptPrompt:
    """All instances of a concept: a noun phrase, exemplar boxes of this very image, or both.

    `box_labels` has one entry per box: True for "like this", False for "not like this".
    `threshold` is the score from which an instance counts in views of the result; every
    instance above the job's floor is kept whatever it says.
    """

    text: str | None
    boxes: tuple[Box, ...] = ()
    box_labels: tuple[bool, ...] = ()
    class_name: str | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.text is None and not self.boxes:
            raise ValueError("a prompt needs text or at least one box")
        if self.text is not None and not self.text.strip():
            raise ValueError("the text of a prompt must not be empty")
        if len(self.boxes) != len(self.box_labels):
            raise ValueError("box_labels must have one entry per box")
        check_threshold(self.threshold)

    @property
    def category(self) -> str:
        return self.class_name or self.text or TEXTLESS_CLASS


@dataclass(frozen=True, slots=True)
class MaskPrompt:
    """One object that a detector's box, clicks, or both point at: exactly one mask comes back."""

    box: Box | None
    points: tuple[Point, ...] = ()
    class_name: str | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.box is None and not self.points:
            raise ValueError("a mask prompt needs a box or at least one point")
        check_threshold(self.threshold)

    @property
    def category(self) -> str:
        return self.class_name or TEXTLESS_CLASS


Prompt = ConceptPrompt | MaskPrompt


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a network can take; published by the workers, read by the API (no torch needed)."""

    text_tokens: int
    queries: int  # instances per prompt and image that the network can return
    image_size: int  # side of the square every image is resized to, in pixels


class TokenCounter(Protocol):
    def __call__(self, text: str) -> int:
        """Tokens of a prompt's text, with start and end token."""


def check_threshold(threshold: float | None) -> None:
    """NaN fails both comparisons, so it is refused too."""
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise ValueError("threshold must be between 0 and 1")


def check_text_lengths(
    prompts: Sequence[Prompt], limits: ModelLimits, count_tokens: TokenCounter
) -> None:
    """Raise `InvalidRequest` for the first text the network would cut off."""
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, ConceptPrompt) or prompt.text is None:
            continue
        tokens = count_tokens(prompt.text)
        if tokens > limits.text_tokens:
            raise InvalidRequest(
                "prompt_too_long",
                f"prompt {index} ({prompt.text[:40]!r}) has {tokens} tokens; "
                f"the model reads {limits.text_tokens}",
            )


def categories(job_prompts: Sequence[Prompt], item_categories: Sequence[str] = ()) -> list[str]:
    """Class names in the order of their ids: the job's prompts as given, then the items' sorted."""
    ordered = dict.fromkeys(prompt.category for prompt in job_prompts)
    ordered.update(dict.fromkeys(sorted(set(item_categories))))
    return list(ordered)
