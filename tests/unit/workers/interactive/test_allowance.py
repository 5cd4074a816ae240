"""What one workflow may use up, counted while it runs."""

import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from domain.workflows.errors import WorkflowError
from domain.workflows.limits import MAX_BLOCKS, MAX_OUTPUT_BYTES
from workers.interactive.allowance import Allowance, Canvases
from workers.interactive.detections import Detection, Detections, Outline
from workers.interactive.pictures import Frame

PIXELS = np.zeros((10, 10, 3), np.uint8)  # a hundred
FRAME = Frame.whole("image", width=100, height=100)


def allowance(*, seconds: float = 60.0) -> Allowance:
    return Allowance(time.monotonic() + seconds)


def test_so_many_blocks_run_and_no_more() -> None:
    left = allowance()
    left.use_blocks()
    left.use_blocks(MAX_BLOCKS - 1)

    with pytest.raises(WorkflowError, match=str(MAX_BLOCKS)) as caught:
        left.use_blocks()

    assert (caught.value.status, caught.value.body["error_type"]) == (400, "WorkflowLimitError")


def test_after_the_deadline_nothing_runs_and_nothing_is_said() -> None:
    left = allowance(seconds=-1)

    with pytest.raises(TimeoutError):
        left.use_blocks()
    with pytest.raises(TimeoutError):
        left.answer({})


def test_an_answer_is_as_long_as_its_json_may_be() -> None:
    left = allowance()
    text = "é" * 10**6  # six characters each, in JSON
    for _ in range(MAX_OUTPUT_BYTES // (6 * 10**6 + 2)):
        assert left.answer(text) is text

    with pytest.raises(WorkflowError, match=str(MAX_OUTPUT_BYTES)) as caught:
        left.answer(text)

    assert caught.value.status == 400


def test_of_more_detections_than_an_answer_may_hold_no_more_are_written_than_fit() -> None:
    one = Detection("id", 0, "n" * 4096, 0.5, (0, 0, 1, 1), Outline([[0, 0], [1, 0], [1, 1]]))
    found = Detections(FRAME, (one,) * 50_000)

    tracemalloc.start()
    with pytest.raises(WorkflowError, match=str(MAX_OUTPUT_BYTES)):
        found.as_json("own", told=allowance().answer)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < MAX_OUTPUT_BYTES


def test_pixels_count_until_nobody_has_any_of_them() -> None:
    own = Canvases(200).of(0)
    first, second = own.copy(PIXELS), own.copy(PIXELS)
    part = second[2:3, 4:5]

    with pytest.raises(WorkflowError, match="200 pixels") as caught:
        own.copy(PIXELS)
    assert caught.value.status == 400

    del second
    with pytest.raises(WorkflowError):
        own.copy(PIXELS)
    assert part.shape == (1, 1, 3)
    del part
    assert own.copy(PIXELS).shape == first.shape


def test_a_canvas_is_a_copy() -> None:
    canvas = Canvases(100).of(0).copy(PIXELS)

    canvas[:] = 7

    assert not PIXELS.any()


def test_images_together_hold_no_more_than_one_may_and_all_come_to_an_end() -> None:
    canvases = Canvases(200)
    now, most = 0, 0
    lock = threading.Lock()

    def run(place: int) -> None:
        nonlocal now, most
        with canvases.of(place) as own:
            for _ in range(5):
                held = own.copy(PIXELS), own.copy(PIXELS)
                with lock:
                    now += len(held)
                    most = max(most, now)
                time.sleep(0.002)
                with lock:
                    now -= len(held)
                del held

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(12)))

    assert most <= 4  # the first takes its two at once; the others have two together


def test_an_image_that_fails_makes_room_for_the_next() -> None:
    canvases = Canvases(100)
    began = threading.Event()

    def fail() -> None:
        with canvases.of(0) as own:
            held = own.copy(PIXELS)
            began.set()
            time.sleep(0.1)
            raise ValueError(str(held.shape))

    def wait() -> tuple[int, ...]:
        began.wait(10)
        with canvases.of(1) as own:
            return own.copy(PIXELS).shape

    with ThreadPoolExecutor(2) as pool:
        failing, waiting = pool.submit(fail), pool.submit(wait)
        assert waiting.result(timeout=10) == (10, 10, 3)
        with pytest.raises(ValueError, match="10"):
            failing.result()
