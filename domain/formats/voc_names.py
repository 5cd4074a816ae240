"""Names of classes that a label map of Pascal VOC can hold."""

import re
from collections.abc import Container, Iterator, Sequence
from itertools import count

from domain.formats.xml_text import speakable

BACKGROUND = "background"
# What ends a field or, to some reader, a line; and what makes the line a comment
_UNREADABLE = re.compile("[:\n\r\x85\u2028\u2029]|^#")


def voc_names(classes: Sequence[str]) -> list[str]:
    """One for each class, no two the same.

    Readers part the fields of a line at `:`, strip it, skip it where it begins with `#`, and refuse
    a label map that has a name twice. A name that they read as it is stays, so that it is the same
    in every export; any other has `_` for what they cannot read, and a number where that is taken.
    """
    taken = {BACKGROUND, *filter(_is_readable, classes)}
    return [*_named(classes, taken)]


def _named(classes: Sequence[str], taken: set[str]) -> Iterator[str]:
    for name in classes:
        given = name if _is_readable(name) else _free(_readable(name), taken)
        taken.add(given)
        yield given


def _is_readable(name: str) -> bool:
    return name == _readable(name) != BACKGROUND


def _readable(name: str) -> str:
    return _UNREADABLE.sub("_", speakable(name).strip()) or "_"


def _free(name: str, taken: Container[str]) -> str:
    numbered = (f"{name} {number}" for number in count(2))
    return name if name not in taken else next(one for one in numbered if one not in taken)
