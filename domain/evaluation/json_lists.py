"""The lists of a JSON object, an entry at a time: as objects a file takes twenty times its size."""

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

_CHUNK_BYTES = 2**20
_MAX_ENTRY = 2**24  # characters
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def json_lists(
    file: BinaryIO, *, note: Callable[[], None] = lambda: None
) -> Iterator[tuple[str, Iterator[Any]]]:
    """Each list below the top with its name; entries that are not taken are passed over. Values of
    other kinds are left out. `note` is called for each chunk of the file. Raises ValueError and
    RecursionError."""
    text = _Text(file, note)
    text.take("{")
    sign = text.take("}") if text.sign() == "}" else ","
    while sign == ",":
        name = text.value()
        text.take(":")
        if text.sign() == "[":
            entries = _entries(text)
            yield name, entries
            for _ in entries:
                pass
        else:
            text.value()
        sign = text.take(",}")
    if text.sign():
        raise ValueError("there is more after its end")


def _entries(text: "_Text") -> Iterator[Any]:
    text.take("[")
    sign = text.take("]") if text.sign() == "]" else ","
    while sign == ",":
        yield text.value()
        sign = text.take(",]")


class _Text:
    """What is in memory of a file, from where it is read on."""

    def __init__(self, file: BinaryIO, note: Callable[[], None]) -> None:
        self._file, self._note = file, note
        self._decoder = getincrementaldecoder("utf-8")()
        self._text, self._at = "", 0

    def sign(self) -> str:
        """The next character that is no space, which is not taken; none at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text) or not self._read_on():
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """One of these characters."""
        found = self.sign()
        if not found or found not in expected:
            at = f"{found!r} where" if found else "it ends where"
            raise ValueError(f"{at} {' or '.join(expected)} is expected")
        self._at += 1
        return found

    def value(self) -> Any:
        """One that ends with the text may go on in the next chunk."""
        self.sign()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._read_on():
                    raise
                continue
            if end < len(self._text) or not self._read_on():
                self._at = end
                return value

    def _read_on(self) -> bool:
        """Whether there was more."""
        left = self._text[self._at :]
        if len(left) > _MAX_ENTRY:
            raise ValueError(f"an entry has more than {_MAX_ENTRY:,} characters, or does not end")
        chunk = self._file.read(max(_CHUNK_BYTES, len(left)))
        if not chunk:
            self._decoder.decode(b"", final=True)
            return False
        self._note()
        self._text, self._at = left + self._decoder.decode(chunk), 0
        return True
