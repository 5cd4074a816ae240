"""`$inputs.NAME` and `$steps.STEP.OUTPUT`: how a workflow's parts name each other."""

import re
from dataclasses import dataclass

_INPUT = re.compile(r"\$inputs\.([A-Za-z_0-9-]+)")
_STEP = re.compile(r"\$steps\.([A-Za-z_0-9-]+)\.([A-Za-z_0-9-]+|\*)")
EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class FromInput:
    name: str


@dataclass(frozen=True, slots=True)
class FromStep:
    """`output` is `*` for an object of all the step's outputs."""

    step: str
    output: str


Source = FromInput | FromStep


def parse_selector(text: object) -> Source | None:
    """None for all that is no selector."""
    if not isinstance(text, str):
        return None
    if found := _INPUT.fullmatch(text):
        return FromInput(found[1])
    if found := _STEP.fullmatch(text):
        return FromStep(found[1], found[2])
    return None
