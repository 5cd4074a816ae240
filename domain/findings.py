"""What is worth knowing about a prompt before a job runs, and what to do about it."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from domain.printable import printable

_SHOWN_CHARACTERS = 60


class Severity(StrEnum):
    WARNING = "warning"  # the result will hardly be what was meant
    HINT = "hint"  # worth a look


class FindingCode(StrEnum):
    # of the text alone
    NEGATION = "negation"
    TOO_LONG = "too_long"
    DUPLICATE = "duplicate"
    SEVERAL_THINGS = "several_things"
    LONG_DESCRIPTION = "long_description"
    INSTRUCTION = "instruction"
    PICKS_OUT = "picks_out"
    NOT_ENGLISH = "not_english"
    UNKNOWN_WORD = "unknown_word"
    RARE_WORD = "rare_word"
    # of what it finds in images
    FINDS_NOTHING = "finds_nothing"
    OVERLAPS = "overlaps"
    SATURATED = "saturated"
    FILLS_IMAGE = "fills_image"


class PromptFinding(BaseModel):
    model_config = ConfigDict(frozen=True)

    severity: Severity
    code: FindingCode
    prompt_index: int = Field(ge=0, description="Position of the prompt in the job, from 0")
    other_prompt_index: int | None = Field(None, description="Of a pair, the other prompt's")
    message: str = Field(description="What it means and what to do, without the prompt's own text")


def by_weight(findings: list[PromptFinding]) -> list[PromptFinding]:
    """Warnings first; of one severity in the order of the prompts."""
    return sorted(findings, key=lambda one: (one.severity != Severity.WARNING, one.prompt_index))


def quoted(text: str) -> str:
    """A prompt's text in a sentence, cut where it is long."""
    plain = printable(text)
    if len(plain) > _SHOWN_CHARACTERS:
        plain = plain[: _SHOWN_CHARACTERS - 1] + "…"
    return f"“{plain}”"
