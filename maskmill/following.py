"""A job's events as they happen, over connections that may break and services that restart."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from maskmill.answers import Event, JobProgress
from maskmill.connection import ApiError, Connection, MaskmillError, ServiceUnreachableError

_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0  # of what the service may ask for
_WAITED_FOR = frozenset({429, 502, 503, 504})


def follow(
    connection: Connection, path: str, *, patience_seconds: float
) -> Iterator[Event | JobProgress]:
    """Every event of `path` once and in order, until the service says that no more will come.

    A service that does not answer, or refuses for now, is waited for `patience_seconds`.
    """
    last_id: str | None = None
    patience_ends = time.monotonic() + patience_seconds
    while True:
        is_connected = heard = False
        pause_seconds = _PAUSE_SECONDS
        try:
            with connection.stream(path, headers=_headers(last_id)) as chunks:
                is_connected = True
                if chunks is None:
                    return
                for message in _messages(chunks):
                    heard = True
                    last_id = message.get("id", last_id)
                    yield _answer(message)
        except (ServiceUnreachableError, ApiError) as error:
            is_over = not is_connected and time.monotonic() > patience_ends
            if is_over or not _is_waited_for(error):
                raise
            pause_seconds = _asked_pause_seconds(error)
        if is_connected:
            patience_ends = time.monotonic() + patience_seconds
        if not heard:
            time.sleep(pause_seconds)


def _is_waited_for(error: MaskmillError) -> bool:
    return not isinstance(error, ApiError) or error.status in _WAITED_FOR


def _asked_pause_seconds(error: MaskmillError) -> float:
    asked = error.retry_after_seconds if isinstance(error, ApiError) else None
    return min(asked or _PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)


def _headers(last_id: str | None) -> dict[str, str]:
    accept = {"Accept": "text/event-stream"}
    return accept if last_id is None else {**accept, "Last-Event-ID": last_id}


def _answer(message: dict[str, str]) -> Event | JobProgress:
    kind: Any = JobProgress if message["event"] == "progress" else Event
    answer: Event | JobProgress = kind.model_validate_json(message["data"])
    return answer


def _messages(chunks: Iterable[bytes]) -> Iterator[dict[str, str]]:
    """Their fields; the service sends the data on one line. What breaks off is left out."""
    fields: dict[str, str] = {}
    for line in _lines(chunks):
        name, _, value = line.partition(":")
        if name in {"id", "event", "data"}:
            fields[name] = value.removeprefix(" ")
        elif not line:
            if "data" in fields:
                yield fields
            fields = {}


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Ended by line feeds alone: data may hold what Python takes for other ends of lines."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode()
