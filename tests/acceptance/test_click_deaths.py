"""Parts die while people click: nobody hears a 500, and answers go on by themselves."""

import base64
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from maskmill.embedded import EmbeddedStack, StackOptions
from maskmill.sample_scenes import draw_scene
from tests.services import wait_until

BODY = {
    "image": {"type": "base64", "value": base64.b64encode(draw_scene(56).encoded()).decode()},
    "prompts": [{"text": "red triangle"}],
}
CLICKERS = 6


pytestmark = pytest.mark.xdist_group("click deaths")  # one stack for both


@pytest.fixture(scope="module")
def stack(session_folder: Path) -> Iterator[EmbeddedStack]:
    # A broker that remembers, as in production.
    with EmbeddedStack(StackOptions(data=session_folder / "deaths")) as stack:
        wait_until(lambda: is_ready(stack), seconds=180)
        yield stack


def is_ready(stack: EmbeddedStack) -> bool:
    return httpx.get(f"{stack.url}/readiness", timeout=30).status_code == 200


def kill(stack: EmbeddedStack, name: str) -> None:
    os.kill(stack.process_ids()[name], signal.SIGKILL)


def ask(stack: EmbeddedStack) -> int:
    answer = httpx.post(
        f"{stack.url}/sam3/concept_segment",
        params={"api_key": stack.api_key},
        json=BODY,
        timeout=60,
    )
    return answer.status_code


def statuses_while(stack: EmbeddedStack, happens: Callable[[], None]) -> list[int]:
    """Of clickers that go on all the while, and for a moment before and after."""
    over = threading.Event()

    def click() -> list[int]:
        statuses = []
        while not over.is_set():
            statuses.append(ask(stack))
        return statuses

    with ThreadPoolExecutor(CLICKERS) as clickers:
        clicking = [clickers.submit(click) for _ in range(CLICKERS)]
        time.sleep(1.0)
        happens()
        over.set()
        return [status for one in clicking for status in one.result()]


def test_a_broker_that_dies_costs_no_worker_and_hardly_an_answer(stack: EmbeddedStack) -> None:
    worker = stack.process_ids()["interactive"]

    def kill_broker() -> None:
        kill(stack, "valkey")
        wait_until(lambda: ask(stack) == 200, seconds=60)

    statuses = statuses_while(stack, kill_broker)
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) > CLICKERS
    assert stack.process_ids()["interactive"] == worker


def test_a_worker_that_dies_is_followed_by_another(stack: EmbeddedStack) -> None:
    def kill_worker() -> None:
        kill(stack, "interactive")
        wait_until(lambda: ask(stack) == 200, seconds=180)

    statuses = statuses_while(stack, kill_worker)
    assert set(statuses) <= {200, 503}
