"""What the client makes of a stream's bytes, and of services that come and go."""

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from maskmill import following
from maskmill.answers import Event, JobProgress
from maskmill.connection import ApiError, ServiceUnreachableError

Answers = list[Any]


class Service:
    """Answers one connection after the other: bytes that come and end, None, or an error."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str | None] = []

    def stream(
        self, path: str, *, headers: dict[str, str]
    ) -> AbstractContextManager[Iterator[bytes] | None]:
        assert headers["Accept"] == "text/event-stream"
        self.asked.append(headers.get("Last-Event-ID"))
        return self._opened(self.answers.pop(0))

    @contextmanager
    def _opened(self, answer: Any) -> Iterator[Iterator[bytes] | None]:
        if isinstance(answer, Exception):
            raise answer
        yield None if answer is None else iter(answer)


def event(number: int, **data: Any) -> bytes:
    document = {
        "id": number,
        "at": "2026-01-01T00:00:00Z",
        "kind": f"n{number}",
        "shard_number": None,
        "data": data,
    }
    text = json.dumps(document, ensure_ascii=False)
    return f"id: 5-{number}\r\nevent: n{number}\r\ndata: {text}\r\n\r\n".encode()


PROGRESS = (
    b'event: progress\r\ndata: {"status": "running", "counts": {"total": 2, "processing": 1, '
    b'"succeeded": 1, "failed": 0, "canceled": 0}, "total_is_final": true, "instances": 3, '
    b'"rate": null, "eta_seconds": null}\r\n\r\n'
)


def followed(service: Service, *, patience_seconds: float = 60) -> list[Event | JobProgress]:
    found = following.follow(service, "/e", patience_seconds=patience_seconds)  # type: ignore[arg-type]
    return list(found)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_PAUSE_SECONDS", 0.01)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_messages_are_read_however_they_are_cut(size: int) -> None:
    odd = "a\u2028b\x85c\x0bd é \\ \r\n:"
    body = b": keep-alive\r\n\r\n" + event(1, text=odd) + PROGRESS + event(2)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    first, progress, second = followed(Service(pieces, None))
    assert isinstance(first, Event)
    assert isinstance(progress, JobProgress)
    assert isinstance(second, Event)
    assert (first.id, first.data["text"], second.id) == (1, odd, 2)
    assert progress.counts.succeeded == 1


def test_a_stream_that_breaks_off_is_gone_on_with_after_the_last_whole_event() -> None:
    def broken() -> Iterator[bytes]:
        yield event(1) + PROGRESS + event(2)[:-2]
        raise ServiceUnreachableError("reset")

    service = Service(broken(), [event(2)], None)
    assert [e.id for e in followed(service) if isinstance(e, Event)] == [1, 2]
    assert service.asked == [None, "5-1", "5-2"]


def test_a_service_that_restarts_is_waited_for() -> None:
    away = ServiceUnreachableError("refused")
    busy = ApiError(503, "database_unavailable", "")
    limited = ApiError(429, "too_many_streams", "", retry_after_seconds=0.1)
    service = Service([event(1)], away, busy, limited, [], [event(2)], None)
    began = time.monotonic()
    assert [e.id for e in followed(service) if isinstance(e, Event)] == [1, 2]
    assert service.asked == [None, *["5-1"] * 5, "5-2"]
    assert time.monotonic() - began > 0.1


def test_patience_ends_and_begins_anew_with_each_connection() -> None:
    away = [ServiceUnreachableError("refused") for _ in range(3)]
    with pytest.raises(ServiceUnreachableError):
        followed(Service(*away), patience_seconds=-1)
    found: list[Any] = []
    service = Service([event(1)], *[ServiceUnreachableError("refused")] * 500)
    with pytest.raises(ServiceUnreachableError):
        found.extend(followed(service, patience_seconds=0.05))
    assert 2 <= len(service.asked) <= 20


@pytest.mark.parametrize("status", [401, 404, 422])
def test_a_refusal_is_raised_at_once(status: int) -> None:
    service = Service(ApiError(status, "no", ""))
    with pytest.raises(ApiError):
        followed(service)
    assert service.asked == [None]
