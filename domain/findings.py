"""What is worth knowing about a prompt before a job runs, and what to do about it."""

from collections.abc import Sequence
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


_TITLES = {
    FindingCode.NEGATION: "{one} says what not to find",
    FindingCode.TOO_LONG: "{one} is too long",
    FindingCode.DUPLICATE: "{one} is {two} once more",
    FindingCode.SEVERAL_THINGS: "{one} names several things",
    FindingCode.LONG_DESCRIPTION: "{one} is a long description",
    FindingCode.INSTRUCTION: "{one} is an instruction",
    FindingCode.PICKS_OUT: "{one} picks one out of many",
    FindingCode.NOT_ENGLISH: "{one} is not English",
    FindingCode.UNKNOWN_WORD: "{one} has a word that the model does not know",
    FindingCode.RARE_WORD: "{one} has a rare word",
    FindingCode.FINDS_NOTHING: "{one} finds nothing",
    FindingCode.OVERLAPS: "{one} overlaps with {two}",
    FindingCode.SATURATED: "{one} finds as many as the network can return",
    FindingCode.FILLS_IMAGE: "{one} fills the image",
}


class PromptFinding(BaseModel):
    model_config = ConfigDict(frozen=True)

    severity: Severity
    code: FindingCode
    prompt_index: int = Field(ge=0, description="Position of the prompt in the job, from 0")
    other_prompt_index: int | None = Field(None, description="Of a pair, the other prompt's")
    message: str = Field(description="What it means and what to do, without the prompt's own text")

    def title(self, texts: Sequence[str]) -> str:
        """In a few words; `texts` are those of the job's prompts."""
        other = self.other_prompt_index
        two = "" if other is None else quoted(texts[other])
        return _TITLES[self.code].format(one=quoted(texts[self.prompt_index]), two=two)


def by_weight(findings: list[PromptFinding]) -> list[PromptFinding]:
    """Warnings first; of one severity in the order of the prompts."""
    return sorted(findings, key=lambda one: (one.severity != Severity.WARNING, one.prompt_index))


def quoted(text: str) -> str:
    """A prompt's text in a sentence, cut where it is long."""
    plain = printable(text)
    if len(plain) > _SHOWN_CHARACTERS:
        plain = plain[: _SHOWN_CHARACTERS - 1] + "…"
    return f"“{plain}”"
