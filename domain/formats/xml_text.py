"""Text of others in XML."""

import re
from xml.sax.saxutils import escape, quoteattr

# All that XML 1.0 has no way to say, not even as a reference (w3.org/TR/xml, 2.2)
_UNSPEAKABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def speakable(text: str) -> str:
    return _UNSPEAKABLE.sub("\ufffd", text)


def text(value: str) -> str:
    """A carriage return would be read as an end of line."""
    return escape(speakable(value), {"\r": "&#13;"})


def attribute(value: str) -> str:
    """With its quotes."""
    return quoteattr(speakable(value))
