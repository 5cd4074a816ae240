"""The reader of all event streams, and what it does for readers that are slow or idle."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from api.events import hub as hub_module
from api.events import stream as stream_module
from api.events.hub import STREAMS_PER_KEY, Hub, TooManyStreams
from api.events.stream import EventStream
from storage.events import START, Event


def _hub() -> Hub:
    def nothing(watches: Any, _limit: int) -> Any:
        return {watch: [] for watch in watches}, set()

    return Hub(read_events=nothing, read_progress=lambda _ids: {})


def test_a_reader_that_takes_nothing_is_let_go_and_its_stream_given_back() -> None:
    async def scenario() -> None:
        hub = _hub()
        await hub.start()
        streams = [hub.open("job_x", key_id="key_x", after=START) for _ in range(STREAMS_PER_KEY)]
        with pytest.raises(TooManyStreams):
            hub.open("job_x", key_id="key_x", after=START)
        slow = streams[0]
        slow.put_events([_event(1), _event(2)])
        assert not slow.is_hungry  # nothing more is read for it meanwhile
        began: list[str] = []

        async def send(message: Any) -> None:
            began.append(message["type"])
            if len(began) > 1:
                await asyncio.Event().wait()

        async def receive() -> Any:
            await asyncio.Event().wait()

        response = EventStream(hub, slow, send_seconds=0.05)
        async with asyncio.timeout(10):
            await response({"type": "http", "method": "GET"}, receive, send)
        assert began == ["http.response.start", "http.response.body"]
        hub.open("job_x", key_id="key_x", after=START)
        await hub.stop()

    asyncio.run(scenario())


def test_an_idle_stream_is_kept_alive_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "KEEP_ALIVE_SECONDS", 0.02)

    async def scenario() -> None:
        hub = _hub()
        await hub.start()
        idle = hub.open("job_x", key_id="key_x", after=START)
        sent: list[bytes] = []

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))
            if len(sent) == 4:
                idle.end()

        async def receive() -> Any:
            await asyncio.Event().wait()

        async with asyncio.timeout(10):
            await EventStream(hub, idle)({"type": "http", "method": "GET"}, receive, send)
        assert set(sent[1:4]) == {b": keep-alive\r\n\r\n"}
        await hub.stop()

    asyncio.run(scenario())


def test_the_reader_goes_on_after_the_database_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_LOOK_SECONDS", 0.02)
    failures: list[Exception] = [
        OperationalError("SELECT", {}, Exception("away")),
        RuntimeError("unforeseen"),
    ]

    def read(watches: Any, _limit: int) -> Any:
        if failures:
            raise failures.pop()
        return {watch: [_event(1)] for watch in watches}, set()

    async def scenario() -> None:
        hub = Hub(read_events=read, read_progress=lambda _ids: {})
        await hub.start()
        stream = hub.open("job_x", key_id="key_x", after=START)
        async with asyncio.timeout(10):
            (entry,) = await stream.take()
        assert entry == _event(1)
        await hub.stop()

    asyncio.run(scenario())
    assert failures == []


def _event(number: int) -> Any:
    return Event(number, number, None, f"n{number}", {}, datetime(2026, 1, 1, tzinfo=UTC))
