"""The threads of a pipeline: what they raise, how far ahead they are, and that they end."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from domain.prompts import ConceptPrompt
from maskmill.sample_scenes import draw_scene
from tests.unit.workers.engine.pipelines import ANY_STAR, pipeline_of, plain, task_of
from workers.engine.channel import Channel, Closed
from workers.engine.engine import Found, ImageInput
from workers.engine.network import Network
from workers.engine.pipeline import ImageTask


def engine_threads() -> list[str]:
    """Still running now, or, of those that fetch and that nobody waits for, after 10 seconds."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("engine-")]
    for thread in threads:
        if "prefetch" in thread.name:
            thread.join(10)
    return [thread.name for thread in threads if thread.is_alive()]


class Stalling:
    """Stands in for a load that takes until it is told to end."""

    def __init__(self, task: ImageTask) -> None:
        self.started = threading.Event()
        self.release = threading.Event()
        self._task = task

    def __call__(self) -> bytes:
        self.started.set()
        assert self.release.wait(30)
        return self._task.load()


def test_a_load_that_fails_otherwise_ends_the_run_after_the_images_before(
    network: Network,
) -> None:
    def lost() -> bytes:
        raise ConnectionError("the store is gone")

    run = pipeline_of(network).run([plain(10), plain(11), ImageTask(lost, ANY_STAR), plain(12)])
    assert [next(run).width, next(run).width] == [10, 11]
    with pytest.raises(ConnectionError, match="the store is gone"):
        next(run)
    assert engine_threads() == []


def test_an_exception_of_the_tasks_reaches_the_caller_after_the_images_before(
    network: Network,
) -> None:
    def tasks() -> Iterator[ImageTask]:
        yield plain(10)
        raise RuntimeError("lease lost")

    run = pipeline_of(network).run(tasks())
    assert next(run).width == 10
    with pytest.raises(RuntimeError, match="lease lost"):
        next(run)


def test_an_exception_of_the_network_reaches_the_caller(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(images: Sequence[ImageInput]) -> list[list[Found]]:
        raise RuntimeError("device lost")

    monkeypatch.setattr(network, "segment", fail)
    with pytest.raises(RuntimeError, match="device lost"):
        list(pipeline_of(network).run([plain(10), plain(11)]))
    assert engine_threads() == []


def test_an_exception_in_encoding_reaches_the_caller(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("cannot encode")

    monkeypatch.setattr("workers.engine.stages.resize", fail)
    with pytest.raises(RuntimeError, match="cannot encode"):
        list(pipeline_of(network).run([task_of(draw_scene(0), ConceptPrompt("shape"))]))


def test_tasks_are_read_a_few_batches_ahead_and_no_further(network: Network) -> None:
    read: list[int] = []

    def tasks() -> Iterator[ImageTask]:
        for number in range(500):
            read.append(number)
            yield plain(10)

    run = pipeline_of(network, images_per_batch=2).run(tasks())
    next(run)
    run.close()
    assert len(read) < 64 + 30  # outcomes that wait for the caller, and what is under way


def test_closing_early_stops_every_thread(network: Network) -> None:
    run = pipeline_of(network).run(plain(10) for _ in range(500))
    next(run)
    run.close()
    assert engine_threads() == []


def test_an_exception_in_the_caller_stops_every_thread(network: Network) -> None:
    def consume() -> None:
        for _ in pipeline_of(network).run(plain(10) for _ in range(500)):
            raise KeyError("the caller's")

    with pytest.raises(KeyError):
        consume()
    assert engine_threads() == []


def test_closing_does_not_wait_for_a_slow_load(network: Network) -> None:
    stalling = Stalling(plain(10))
    tasks = [plain(9), ImageTask(stalling, ANY_STAR), *[plain(11)] * 50]
    run = pipeline_of(network, images_per_batch=1).run(tasks)
    assert next(run).width == 9
    assert stalling.started.wait(30)
    closing = threading.Thread(target=run.close)
    closing.start()
    closing.join(10)
    closed_while_stalled = not closing.is_alive()
    stalling.release.set()
    assert closed_while_stalled
    assert engine_threads() == []


def test_the_network_does_not_wait_for_tasks_that_do_not_come(network: Network) -> None:
    """A batch is what is there: a caller may hand out the next task after the first outcome."""
    first_done = threading.Event()

    def tasks() -> Iterator[ImageTask]:
        yield plain(10)
        assert first_done.wait(30)
        yield plain(11)

    run = pipeline_of(network, images_per_batch=4).run(tasks())
    assert next(run).width == 10
    first_done.set()
    assert [outcome.width for outcome in run] == [11]


def test_a_closed_channel_wakes_both_ends() -> None:
    channel = Channel[int](1)
    channel.put(1)
    woken: list[str] = []

    def put() -> None:
        with pytest.raises(Closed):
            channel.put(2)
        woken.append("put")

    thread = threading.Thread(target=put)
    thread.start()
    channel.close()
    thread.join(10)
    assert woken == ["put"]
    with pytest.raises(Closed):
        channel.take()


def test_a_finished_channel_is_drained_and_then_ends() -> None:
    channel = Channel[int](3)
    for number in range(3):
        channel.put(number)
    channel.finish()
    assert [channel.take(2), channel.take(2), channel.take(2)] == [[0, 1], [2], []]
