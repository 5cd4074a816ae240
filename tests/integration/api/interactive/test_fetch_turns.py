"""Fetches of one key take turns, and a thread has its turn until it is done."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event
from typing import Any

import pytest

from api.interactive.images import ImageLoader
from storage.guarded_fetch import GuardedFetcher
from tests.integration.storage.lanes import lane_settings, run
from tests.integration.storage.web_server import Request, WebServer, serving

AT_ONCE = 8  # fetches of one key
IMAGE = b"the image"


@pytest.fixture
def may_answer() -> Iterator[Event]:
    answers = Event()
    yield answers
    answers.set()


@pytest.fixture
def server(may_answer: Event) -> Iterator[WebServer]:
    """Silent, but for /quick, until it may answer."""

    def page(request: Request) -> None:
        if request.path != "/quick":
            may_answer.wait(30)
        request.answer(200, IMAGE)

    with serving(page) as server:
        yield server


@pytest.fixture
def seconds_given(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How much time each fetch had when it began."""
    given, get = list[float](), GuardedFetcher.get

    def noted(self: GuardedFetcher, url: str, **limits: Any) -> bytes:
        given.append(limits["timeout_seconds"])
        return get(self, url, **limits)

    monkeypatch.setattr(GuardedFetcher, "get", noted)
    return given


def loader_for(server: WebServer, *, seconds: float) -> ImageLoader:
    settings = lane_settings(
        "redis://nowhere",
        allowed_hosts=[server.host],
        allow_http_images=True,
        fetch_seconds=seconds,
    )
    return ImageLoader(settings)


def loading(loader: ImageLoader, url: str, *, key_id: str = "key_1") -> "asyncio.Task[bytes]":
    return asyncio.create_task(loader.load("url", url, key_id=key_id))


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_true():
            await asyncio.sleep(0.01)


async def left_by_their_callers(loader: ImageLoader, server: WebServer) -> None:
    """As many fetches as a key may have, each with a thread that waits for the silent server."""
    slow = [loading(loader, f"{server.url}/slow") for _ in range(AT_ONCE)]
    await until(lambda: len(server.seen) == AT_ONCE)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


def test_a_fetch_that_nobody_awaits_any_more_keeps_its_turn_until_its_thread_is_done(
    server: WebServer, may_answer: Event, seconds_given: list[float]
) -> None:
    async def work(loader: ImageLoader) -> None:
        await left_by_their_callers(loader, server)
        next_one = loading(loader, f"{server.url}/quick")
        done, _ = await asyncio.wait([next_one], timeout=0.3)
        assert not done
        assert server.seen == ["/slow"] * AT_ONCE
        other = loading(loader, f"{server.url}/quick", key_id="key_2")
        assert await other == IMAGE, "another key has turns of its own"
        may_answer.set()
        assert await next_one == IMAGE

    with closing(loader_for(server, seconds=20)) as loader:
        run(work(loader))
    assert seconds_given[-1] < 20 - 0.3, "the wait for its turn is part of its time"
