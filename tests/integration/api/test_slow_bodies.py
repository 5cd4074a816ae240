"""Bodies that come slowly, or many at once from senders who have not said who they are."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from api.requests import BodyLimit


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        body = await Request(scope, receive).body()
        response = JSONResponse({"bytes": len(body)})
    except HTTPException as error:
        response = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
    await response(scope, receive, send)


def limited(*, seconds: float = 10.0, strangers_bytes: int = 100) -> BodyLimit:
    return BodyLimit(
        app, limit_bytes=lambda *_: 80, seconds=seconds, strangers_bytes=strangers_bytes
    )


async def answered(
    door: BodyLimit,
    chunks: AsyncIterator[bytes],
    *,
    method: str = "POST",
    key: bytes | None = None,
) -> tuple[int, Any]:
    sent: list[Message] = []

    async def receive() -> Message:
        async for chunk in chunks:
            return {"type": "http.request", "body": chunk, "more_body": True}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"authorization", key)] if key else []
    scope = {"type": "http", "method": method, "path": "/", "headers": headers, "query_string": b""}
    await door(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


async def slowly(*chunks: bytes, seconds: float = 0.0) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(seconds)
        yield chunk


@pytest.mark.parametrize("key", [None, b"Bearer mm_x"])
def test_a_body_that_does_not_end_is_left(key: bytes | None) -> None:
    door = limited(seconds=0.2)
    drip = slowly(*[b"a"] * 50, seconds=0.05)
    status, body = asyncio.run(answered(door, drip, key=key))
    assert (status, body["detail"]) == (408, "A body has 0.2 s to come in.")


def test_an_upload_may_take_its_time() -> None:
    drip = slowly(*[b"a"] * 5, seconds=0.05)
    assert asyncio.run(answered(limited(seconds=0.1), drip, method="PUT")) == (200, {"bytes": 5})


def test_strangers_share_what_may_be_on_its_way_and_give_it_back() -> None:
    async def scenario() -> list[tuple[int, Any]]:
        door, over = limited(), asyncio.Event()

        async def held() -> AsyncIterator[bytes]:
            yield b"a" * 70
            await over.wait()

        first = asyncio.create_task(answered(door, held()))
        await asyncio.sleep(0.05)
        refused = await answered(door, slowly(b"a" * 40))
        known = await answered(door, slowly(b"a" * 40), key=b"Bearer mm_x")
        over.set()
        return [refused, known, await first, await answered(door, slowly(b"a" * 40))]

    refused, *others = asyncio.run(scenario())
    assert refused[0] == 503
    assert others == [(200, {"bytes": 40}), (200, {"bytes": 70}), (200, {"bytes": 40})]
