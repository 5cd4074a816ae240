"""What can be said about prompts without any image.

Texts are English noun phrases: that is what SAM 3 was trained with. Messages say what to do.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from domain.findings import FindingCode, PromptFinding, Severity, by_weight, quoted
from domain.prompts import ConceptPrompt

MANY_WORDS = 8
# Of CLIP's tokenizer: 1 helmet, 2 hardhat, 3 stethoscope, 4 Schutzhelm, 6 Sicherheitsweste. Most
# misspelt words have 2 or 3, and so have too many that are spelt well.
MANY_PIECES = 4
_LISTED_WORDS = 3

_COLOUR = "black|white|red|green|blue|yellow|orange|purple|brown|pink|gr[ae]y|silver|gold"
_LETTERS = re.compile(r"[^\W\d_]+")
# Fixed words are no mistake: of "black and white cow" and "w/ lid" nothing is left to look at.
_FIXED = re.compile(rf"\b(?:{_COLOUR}) (?:and|&) (?:{_COLOUR})\b|\bw/o?(?!\w)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Pattern:
    code: FindingCode
    severity: Severity
    expression: re.Pattern[str]
    message: str


def _words(expression: str) -> re.Pattern[str]:
    """Whole words; "forget-me-not" is one."""
    return re.compile(rf"(?<![\w-])(?:{expression})(?![\w-])", re.IGNORECASE)


# facebookresearch/sam3, issue 393: "person without safety helmet" has 0.91 on people who wear one
_NEGATION = _Pattern(
    FindingCode.NEGATION,
    Severity.WARNING,
    re.compile(
        r"(?<![\w-])(?:(?:without|w/o|not|never|neither|nor|none|nothing|cannot|except|excluding"
        r"|lacking|absent|other than|\w+n['’]t)(?![\w-])|non-(?=\w)|non(?=\s)"
        r"|no(?=[\s-])(?!\s*\d)(?!.*\b(?:signs?|symbols?|pictograms?)\b))",
        re.IGNORECASE,
    ),
    "The network does not understand negation: “without helmet” finds people with helmets too, "
    "with high scores. Name what is to be seen instead (“bare head”), or find both things and "
    "tell them apart afterwards.",
)
_SEVERAL_THINGS = _Pattern(
    FindingCode.SEVERAL_THINGS,
    Severity.HINT,
    re.compile(r"[,;|]|\s(?:and|or|&|\+|/)\s|\band/or\b|[^\W\d_]/[^\W\d_]", re.IGNORECASE),
    "This reads like several things, and a prompt looks for one concept. Make each a prompt of "
    "its own; those with the same class name become one class.",
)
_PATTERNS = (
    _Pattern(
        FindingCode.INSTRUCTION,
        Severity.HINT,
        re.compile(
            r"^(?:please\s+)?(?:find|segment|detect|locate|identify|highlight|annotate|show me"
            r"|where (?:is|are)|(?:is|are) there|how many|count)\s+\S|\?\s*$",
            re.IGNORECASE,
        ),
        "This reads like an instruction. Give the thing alone: “red circle”, not “find all red "
        "circles”. All instances are found anyway.",
    ),
    _Pattern(
        FindingCode.PICKS_OUT,
        Severity.HINT,
        _words(
            r"(?:left|right|top|bottom)most|nearest|closest|farthest|furthest|largest|biggest"
            r"|smallest|tallest|(?:left|right) of|on the (?:left|right)"
            r"|in the (?:fore|back)ground"
        ),
        "A prompt finds every instance of a concept; by place or rank it picks none out reliably. "
        "Ask for the concept and choose among its boxes and areas afterwards.",
    ),
)


def lint(
    prompts: Sequence[ConceptPrompt], tokenizer_json: str | None, *, text_tokens: int | None
) -> list[PromptFinding]:
    """Warnings first. `tokenizer_json` and `text_tokens` are what a worker published of its model;
    without them unknown words and long texts go unnoticed, and duplicates are found by case and
    spaces alone."""
    reader = None if tokenizer_json is None else _Reader(tokenizer_json)
    findings = list(_duplicates(prompts, reader))
    for index, prompt in enumerate(prompts):
        if prompt.text is not None:
            findings += _of_text(index, prompt.text)
            if reader is not None:
                findings += _of_tokens(index, prompt.text, reader, text_tokens=text_tokens)
    return by_weight(findings)


def _of_text(index: int, text: str) -> Iterator[PromptFinding]:
    left = _FIXED.sub(" ", text)
    if _NEGATION.expression.search(text):
        yield _finding(_NEGATION.code, index, _NEGATION.message, severity=_NEGATION.severity)
    elif _SEVERAL_THINGS.expression.search(left):
        yield _finding(_SEVERAL_THINGS.code, index, _SEVERAL_THINGS.message)
    for pattern in _PATTERNS:
        if pattern.expression.search(text):
            yield _finding(pattern.code, index, pattern.message, severity=pattern.severity)
    words = len(text.split())
    if words > MANY_WORDS:
        message = (
            f"{words} words: the network was trained with short noun phrases, and what long "
            "descriptions add is easily lost. Say what the thing is, and the one or two "
            "properties that set it apart."
        )
        yield _finding(FindingCode.LONG_DESCRIPTION, index, message)
    if not _is_latin(text):
        message = "SAM 3 was trained with English phrases: translate this one."
        yield _finding(FindingCode.NOT_ENGLISH, index, message)


def _of_tokens(
    index: int, text: str, reader: "_Reader", *, text_tokens: int | None
) -> Iterator[PromptFinding]:
    tokens = len(reader.ids(text))
    if text_tokens is not None and tokens > text_tokens:
        message = (
            f"{tokens} tokens, start and end included, and the network reads {text_tokens}: a job "
            "with this prompt is refused. Shorten it."
        )
        yield _finding(FindingCode.TOO_LONG, index, message, severity=Severity.WARNING)
    words = list(dict.fromkeys(_LETTERS.findall(text)))
    if unknown := [word for word in words if reader.knows_not(word)]:
        message = (
            f"The model does not know {_listed(unknown)}, and cannot tell one unknown word from "
            "another. Check the spelling, or use a word that it knows."
        )
        yield _finding(FindingCode.UNKNOWN_WORD, index, message)
    if rare := [word for word in words if _is_latin(word) and reader.pieces(word) >= MANY_PIECES]:
        message = (
            f"Rare in the text that the network learned from: {_listed(rare)}. Check the spelling, "
            "and that it is English; a plainer word may find more."
        )
        yield _finding(FindingCode.RARE_WORD, index, message)


def _duplicates(
    prompts: Sequence[ConceptPrompt], reader: "_Reader | None"
) -> Iterator[PromptFinding]:
    """Each with the first of those that are the same to the network."""
    first: dict[object, int] = {}
    for index, prompt in enumerate(prompts):
        if prompt.text is None or prompt.boxes:
            continue
        read = _folded(prompt.text) if reader is None else tuple(reader.ids(prompt.text))
        other = first.setdefault(read, index)
        if other != index:
            yield _duplicate(index, prompt, other=other, of=prompts[other])


def _duplicate(
    index: int, prompt: ConceptPrompt, *, other: int, of: ConceptPrompt
) -> PromptFinding:
    if prompt.category == of.category:
        twice = f"twice as {quoted(prompt.category)}"
    else:
        twice = f"as {quoted(of.category)} and again as {quoted(prompt.category)}"
    message = (
        f"The network reads this and {quoted(of.text or '')} as the same: every object is found "
        f"{twice}. Keep one of them."
    )
    return PromptFinding(
        severity=Severity.WARNING,
        code=FindingCode.DUPLICATE,
        prompt_index=index,
        other_prompt_index=other,
        message=message,
    )


class _Reader:
    """A text as the network reads it."""

    def __init__(self, tokenizer_json: str) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # CLIP's is the end token, which no text gives; the demo network's is what it does not know
        unknown = json.loads(tokenizer_json)["model"].get("unk_token")
        self._unknown = None if unknown is None else self._tokenizer.token_to_id(unknown)

    def ids(self, text: str) -> list[int]:
        """With start and end."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def knows_not(self, word: str) -> bool:
        return self._unknown in self._word(word)

    def pieces(self, word: str) -> int:
        return len(self._word(word))

    def _word(self, word: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(word, add_special_tokens=False).ids
        return ids


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _is_latin(text: str) -> bool:
    letters = (character for character in text if character.isalpha())
    return all(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)


def _listed(words: Sequence[str]) -> str:
    """The first few."""
    said = ", ".join(map(quoted, words[:_LISTED_WORDS]))
    return said if len(words) <= _LISTED_WORDS else f"{said} and others"


def _finding(
    code: FindingCode, index: int, message: str, *, severity: Severity = Severity.HINT
) -> PromptFinding:
    return PromptFinding(severity=severity, code=code, prompt_index=index, message=message)
