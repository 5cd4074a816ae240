import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.logs import logging_as

ODD = "a\x1b[2Jb\r\nforged\u202e\u2028\x9b"
ESCAPED = r"a\x1b[2Jb\r\nforged\u202e\u2028\x9b"


@pytest.fixture(autouse=True)
def console() -> Iterator[None]:
    with logging_as("console"):
        yield


def test_texts_of_others_cannot_steer_the_terminal_that_shows_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    structlog.get_logger("t").info(ODD, image=ODD, several=[ODD])
    logging.getLogger("library").warning("says %s", ODD)
    first, second = capsys.readouterr().err.split("\n")[:-1]
    assert (first.count(ESCAPED), second.count(ESCAPED)) == (3, 1)


def test_a_traceback_keeps_its_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(ODD)
    except ValueError:
        structlog.get_logger("t").exception("failed")
    said = capsys.readouterr().err
    assert "\nValueError: a\\x1b[2Jb\\r\nforged" in said
    assert not set(said) & set("\x1b\r\u202e\u2028\x9b")
