from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from threading import Event
from time import perf_counter

import pytest
import torch

from domain.errors import ImageError, ImageErrorCode
from workers.engine.batcher import Batcher
from workers.engine.channel import Closed

Work = Callable[[Sequence[int]], list[int]]
CPU = torch.device("cpu")


class Desk:
    """`work` is shut until it is let go; it answers ten times the number."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = Event(), Event()

    def work(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        self.go.wait()
        return [10 * item for item in items]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def batcher_of(work: Work, *, most: int = 4, callers: Callable[[], int] = lambda: 1) -> Batcher:
    return Batcher(work, name="test", device=CPU, most=lambda: most, callers=callers)


def behind_a_shut_desk(
    desk: Desk, batcher: Batcher, threads: ThreadPoolExecutor, items: Sequence[int]
) -> list["Future[int]"]:
    """0 is being worked on when `items` arrive."""
    first = threads.submit(batcher.ask, 0)
    desk.begun.wait()
    rest = [threads.submit(batcher.ask, item) for item in items]
    while len(batcher._waiting) < len(items):
        pass
    return [first, *rest]


def test_what_arrived_meanwhile_goes_together_up_to_the_limit(threads: ThreadPoolExecutor) -> None:
    desk = Desk()
    asked = behind_a_shut_desk(desk, batcher := batcher_of(desk.work), threads, range(1, 7))
    desk.go.set()
    assert [one.result() for one in asked] == [0, 10, 20, 30, 40, 50, 60]
    assert [len(batch) for batch in desk.batches] == [1, 4, 2]
    batcher.close()


def test_a_moment_is_waited_for_callers_on_their_way_and_for_no_longer() -> None:
    desk = Desk()
    desk.go.set()
    together, alone = batcher_of(desk.work, callers=lambda: 3), batcher_of(desk.work)
    for batcher, least, most in ((together, 0.002, 0.5), (alone, 0.0, 0.002)):
        quickest = min(_seconds(batcher) for _ in range(20))
        assert least <= quickest <= most
        batcher.close()


def _seconds(batcher: Batcher) -> float:
    started = perf_counter()
    batcher.ask(1)
    return perf_counter() - started


def test_callers_within_a_moment_make_one_batch(threads: ThreadPoolExecutor) -> None:
    desk = Desk()
    desk.go.set()
    batcher = batcher_of(desk.work, callers=lambda: 3)
    batcher._changed.acquire()  # they arrive at once
    asked = [threads.submit(batcher.ask, item) for item in range(3)]
    batcher._changed.release()
    assert [one.result() for one in asked] == [0, 10, 20]
    assert sorted(chain(*desk.batches)) == [0, 1, 2]
    assert len(desk.batches) < 3
    batcher.close()


def test_an_exception_reaches_the_caller_whose_item_it_is_and_no_other(
    threads: ThreadPoolExecutor,
) -> None:
    desk = Desk()

    def work(items: Sequence[int]) -> list[int]:
        answers = desk.work(items)
        if 1 in items:
            raise ValueError("one")
        return answers

    batcher = batcher_of(work, most=2)
    first, one, *others = behind_a_shut_desk(desk, batcher, threads, range(1, 5))
    desk.go.set()
    with pytest.raises(ValueError, match="one"):
        one.result()
    assert [first.result(), *(other.result() for other in others)] == [0, 20, 30, 40]
    assert {len(batch) for batch in desk.batches if 1 in batch} == {2, 1}
    batcher.close()


def test_a_batch_too_large_is_halved_down_to_the_item_that_does_not_fit(
    threads: ThreadPoolExecutor,
) -> None:
    desk = Desk()

    def work(items: Sequence[int]) -> list[int]:
        answers = desk.work(items)
        if len(items) > 2 or 3 in items:
            raise torch.OutOfMemoryError("no room")
        return answers

    batcher = batcher_of(work)
    _, *rest = behind_a_shut_desk(desk, batcher, threads, range(1, 5))
    desk.go.set()
    for item, one in enumerate(rest, start=1):
        if item == 3:
            with pytest.raises(ImageError, match="this image alone") as raised:
                one.result()
            assert raised.value.code == ImageErrorCode.OUT_OF_MEMORY
        else:
            assert one.result() == 10 * item
    assert max(len(batch) for batch in desk.batches) == 4
    batcher.close()


def test_work_that_loses_answers_fails_those_items_and_the_next_are_answered(
    threads: ThreadPoolExecutor,
) -> None:
    desk = Desk()

    def work(items: Sequence[int]) -> list[int]:
        return [answer for answer in desk.work(items) if answer not in (20, 30)]

    batcher = batcher_of(work)
    first, *others = behind_a_shut_desk(desk, batcher, threads, range(1, 5))
    desk.go.set()
    for lost in others[1:3]:
        with pytest.raises(ValueError, match="shorter"):
            lost.result()
    assert [first.result(), others[0].result(), others[3].result()] == [0, 10, 40]
    assert batcher.ask(5) == 50
    batcher.close()


def test_closing_answers_who_waits_and_refuses_who_comes_later(threads: ThreadPoolExecutor) -> None:
    desk = Desk()
    asked = behind_a_shut_desk(desk, batcher := batcher_of(desk.work), threads, [1])
    closing = threads.submit(batcher.close)
    while not batcher._closed:
        pass
    with pytest.raises(Closed):
        batcher.ask(2)
    desk.go.set()
    closing.result()
    assert [one.result() for one in asked] == [0, 10]
    assert not batcher._thread.is_alive()
