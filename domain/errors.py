"""What can go wrong, by name. A bad image is a result; a bad request is a problem."""

from enum import StrEnum


class ImageErrorCode(StrEnum):
    """Why one image has no annotations. The job goes on."""

    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"
    UNSUPPORTED = "unsupported"
    DECODE_ERROR = "decode_error"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    FETCH_ERROR = "fetch_error"


class ImageError(Exception):
    """One image cannot be labelled; recorded as its outcome."""

    def __init__(self, code: ImageErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = _storable(message)


class InvalidRequest(ValueError):
    """The user asked for something that cannot be done, with a stable `code`.

    `line` is the 1-based line (or Parquet row) of a manifest, where there is one.
    """

    def __init__(self, code: str, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = _storable(message)
        self.line = line


def _storable(message: str) -> str:
    """Messages quote what users wrote, and PostgreSQL's text and JSONB refuse NUL."""
    return message.replace("\0", "\ufffd")


class IllegalTransition(Exception):
    """A status change that the transition table does not have."""


class LeaseLost(Exception):
    """Somebody else owns the shard now: stop, write nothing more."""
