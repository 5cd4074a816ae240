import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from domain.fetching import LoneFetch, pause_seconds
from tests.services import wait_until
from workers.engine.channel import Closed
from workers.engine.fetch_window import FetchWindow, Line, Slot, current_fetch


def fetch(slot: Slot, *, fails: bool = False) -> None:
    with slot.loading_here():
        if fails:
            slot.slow_down()


def rounds(window: FetchWindow, count: int, *, starving: bool = True) -> list[int]:
    """The limit after each round of as many fetches as the window takes, all at once."""
    limits, line = [], Line()
    for _ in range(count):
        slots = [window.reserve(line) for _ in range(window.limit)]
        for slot in slots:
            window.begin(slot)
        if starving:
            window.starve()
        for slot in slots:
            window.end(slot, succeeded=True)
            window.take(slot)
            window.free(slot)
        limits.append(window.limit)
    return limits


def in_thread(work: Callable[[], object]) -> Future[object]:
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(work)
    finally:
        pool.shutdown(wait=False)


def test_the_window_doubles_each_round_while_the_network_starves() -> None:
    assert rounds(FetchWindow(least=4, most=64), 6) == [8, 16, 32, 64, 64, 64]


def test_the_window_stays_while_the_network_has_work() -> None:
    assert rounds(FetchWindow(least=4, most=64), 3, starving=False) == [4, 4, 4]


def test_the_window_stays_where_it_holds_nobody_back() -> None:
    """Few tasks, or slow ones: more room would change nothing."""
    window, line = FetchWindow(least=4), Line()
    slot = window.reserve(line)
    window.begin(slot)
    window.starve()
    window.end(slot, succeeded=True)
    assert window.limit == 4


def test_a_store_that_protests_halves_the_window_once_for_all_that_was_on_its_way() -> None:
    window, line = FetchWindow(least=2, most=64), Line()
    rounds(window, 4)
    assert window.limit == 32
    slots = [window.reserve(line) for _ in range(32)]
    for slot in slots:
        window.begin(slot)
    for slot in slots[:20]:
        window.slow_down(slot)
    assert window.limit == 16
    late = slots[0]
    window.end(late, succeeded=False)
    window.begin(late)  # tried again, after the cut
    window.slow_down(late)
    assert window.limit == 8


def test_after_a_protest_the_window_grows_by_one_a_round_and_never_falls_below_the_least() -> None:
    window, line = FetchWindow(least=4, most=64), Line()
    rounds(window, 2)
    slot = window.reserve(line)
    fetch(slot, fails=True)
    window.take(slot)
    window.free(slot)
    assert window.limit == 8
    assert rounds(window, 9)[-1] in {16, 17}
    for _ in range(5):
        slot = window.reserve(line)
        fetch(slot, fails=True)
        window.take(slot)
        window.free(slot)
    assert window.limit == 4


def test_no_more_are_on_their_way_than_the_limit() -> None:
    window, line = FetchWindow(least=2, most=2), Line()
    first, _ = window.reserve(line), window.reserve(line)
    third = in_thread(lambda: window.reserve(line))
    with pytest.raises(TimeoutError):
        third.result(0.1)
    window.take(first)
    assert isinstance(third.result(10), Slot)


def test_every_run_may_have_one_image_whatever_others_hold() -> None:
    window = FetchWindow(least=1, most=1)
    window.reserve(Line())
    assert isinstance(in_thread(lambda: window.reserve(Line())).result(10), Slot)


def test_bytes_are_bounded_and_the_oldest_image_passes() -> None:
    window, line = FetchWindow(least=4, most=4, max_bytes=100), Line()
    oldest, second, third = (window.reserve(line) for _ in range(3))
    for slot in (oldest, second, third):
        window.begin(slot)
    second.expect(90)
    waiting = in_thread(lambda: third.expect(20))
    with pytest.raises(TimeoutError):
        waiting.result(0.1)
    oldest.expect(1000)  # all others wait for it
    assert window.held_bytes == 1090
    window.end(oldest, succeeded=True)
    window.take(oldest)
    with pytest.raises(TimeoutError):
        waiting.result(0.1)
    window.free(oldest)  # decoded
    with pytest.raises(TimeoutError):
        waiting.result(0.1)
    window.end(second, succeeded=True)
    window.take(second)  # third is the oldest now
    waiting.result(10)
    assert window.held_bytes == 110


def test_no_new_image_begins_while_the_bytes_are_used_up() -> None:
    window, line = FetchWindow(least=4, most=4, max_bytes=100), Line()
    slot = window.reserve(line)
    window.begin(slot)
    slot.expect(100)
    second = in_thread(lambda: window.reserve(line))
    with pytest.raises(TimeoutError):
        second.result(0.1)
    window.end(slot, succeeded=True)
    window.take(slot)
    window.free(slot)
    assert isinstance(second.result(10), Slot)


def test_closing_wakes_all_who_wait_and_gives_everything_back() -> None:
    window, line = FetchWindow(least=2, most=2, max_bytes=10), Line()
    loading, second = window.reserve(line), window.reserve(line)
    for slot in (loading, second):
        window.begin(slot)
    second.expect(10)
    waits = [
        in_thread(lambda: window.reserve(line)),
        in_thread(lambda: window.back_off(second, 60.0)),
    ]
    time.sleep(0.05)
    window.close(line)
    for wait in waits:
        with pytest.raises(Closed):
            wait.result(10)
    with pytest.raises(Closed):
        loading.expect(5)
    for slot in (loading, second):
        window.end(slot, succeeded=False)
    assert window.held_bytes == 0
    other = Line()
    for _ in range(2):
        window.reserve(other)


def test_retries_keep_to_the_halved_window_and_come_back_oldest_first() -> None:
    window, line = FetchWindow(least=1, most=8), Line()
    rounds(window, 3)
    slots = [window.reserve(line) for _ in range(8)]
    for slot in slots:
        window.begin(slot)
    returned: list[int] = []
    released = threading.Semaphore(0)

    def fail_once(number: int) -> None:
        slot = slots[number]
        slot.slow_down()
        window.back_off(slot, 0.0)
        returned.append(number)
        assert released.acquire(timeout=30)
        window.end(slot, succeeded=True)

    blocked = slots[0]  # keeps talking, so that the others wait for their turn
    waits = [in_thread(lambda number=number: fail_once(number)) for number in (5, 7, 2, 6)]
    wait_until(lambda: len(window._returning) == 4)
    assert window.limit == 4
    for number in (1, 3, 4):
        window.end(slots[number], succeeded=True)
    wait_until(lambda: len(returned) == 3)
    time.sleep(0.05)
    assert set(returned) == {2, 5, 6}  # four talk, with the one that has not ended
    for _ in range(4):
        released.release()
    for wait in waits:
        wait.result(10)
    window.end(blocked, succeeded=True)
    assert len(returned) == 4


def test_a_load_finds_its_own_fetch_and_others_a_patient_one() -> None:
    window, line = FetchWindow(), Line()
    slot = window.reserve(line)
    with slot.loading_here():
        assert current_fetch() is slot
    assert isinstance(current_fetch(), LoneFetch)


def test_pauses_grow_are_spread_and_end_somewhere() -> None:
    for tries in (1, 3, 8, 50):
        pauses = [pause_seconds(tries) for _ in range(200)]
        longest = min(5.0, 0.2 * 2**tries)
        assert 0 <= min(pauses) < 0.2 * longest
        assert 0.8 * longest < max(pauses) <= longest
