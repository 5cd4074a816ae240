"""How much a pipeline fetches at once."""

import threading
import time
from collections.abc import Sequence

import pytest

from tests.unit.workers.engine.pipelines import ANY_STAR, pipeline_of, plain
from tests.unit.workers.engine.test_pipeline_threads import engine_threads
from workers.engine.engine import Found, ImageInput
from workers.engine.fetch_window import FetchWindow, current_fetch
from workers.engine.network import Network
from workers.engine.pipeline import ImageTask


class SlowStore:
    """Stands in for a store that takes a while to answer and notes how many it is asked at once."""

    def __init__(self, data: bytes, seconds: float = 0.05) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._data = data
        self._seconds = seconds

    def __call__(self) -> bytes:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self._seconds)
        with self._lock:
            self._now -= 1
        return self._data


def watch_nothing(network: Network, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> None:
    """A network that finds nothing, in so many seconds a batch."""

    def segment(images: Sequence[ImageInput]) -> list[list[Found]]:
        time.sleep(seconds)
        return [[] for _ in images]

    monkeypatch.setattr(network, "segment", segment)


def test_more_is_fetched_at_once_while_the_network_waits_and_the_next_run_begins_with_that(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_nothing(network, monkeypatch)
    window = FetchWindow(least=2, most=16)
    load = SlowStore(plain(10).load())
    tasks = [ImageTask(load, ANY_STAR)] * 150
    outcomes = list(pipeline_of(network, window=window, images_per_batch=2).run(tasks))
    assert all(outcome.succeeded for outcome in outcomes)
    assert load.most > 8
    assert window.limit == 16
    again = SlowStore(plain(10).load())
    list(pipeline_of(network, window=window).run([ImageTask(again, ANY_STAR)] * 16))
    assert again.most > 8


def test_no_more_is_fetched_at_once_than_a_busy_network_needs(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_nothing(network, monkeypatch, seconds=0.2)
    window = FetchWindow(least=4, most=32)
    load = SlowStore(plain(10).load(), seconds=0.001)
    tasks = [ImageTask(load, ANY_STAR)] * 40
    list(pipeline_of(network, window=window, images_per_batch=2).run(tasks))
    assert window.limit < 8


def test_large_files_are_not_fetched_ahead_of_the_room_for_them(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_nothing(network, monkeypatch)
    window = FetchWindow(least=8, most=8, max_bytes=3000)
    data = plain(10).load()
    most: list[int] = []

    def load() -> bytes:
        current_fetch().expect(1000)
        most.append(window.held_bytes)
        time.sleep(0.01)
        return data

    outcomes = list(pipeline_of(network, window=window).run([ImageTask(load, ANY_STAR)] * 40))
    assert len(outcomes) == 40
    assert 2000 <= max(most) <= 4000
    assert window.held_bytes == 0


def test_a_run_that_is_closed_while_its_images_wait_to_be_tried_again_gives_all_back(
    network: Network,
) -> None:
    window = FetchWindow(least=4, most=4)
    tried = threading.Event()

    def load() -> bytes:
        current_fetch().slow_down()
        tried.set()
        while True:
            current_fetch().back_off(tries=10)

    run = pipeline_of(network, window=window).run([plain(10), *[ImageTask(load, ANY_STAR)] * 20])
    assert next(run).width == 10
    assert tried.wait(30)
    run.close()
    assert engine_threads() == []
    assert len(list(pipeline_of(network, window=window).run([plain(10)] * 10))) == 10
