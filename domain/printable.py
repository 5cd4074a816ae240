"""Text of others on our terminals and in our logs."""

import unicodedata

# Controls (ESC, newline), formats (right-to-left marks), surrogates, line and paragraph separators
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str, *, keep: str = "") -> str:
    """Escapes what would move the cursor, change colours, or hide or forge lines; not `keep`."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNPRINTABLE and character not in keep
        else character
        for character in text
    )
