"""One process of the lane, on a real broker, moved by hand."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import torch

from domain.errors import InvalidRequest
from domain.interactive import LaneAnswer, LaneRequest
from maskmill.sample_scenes import draw_scene
from storage.lane import Answer, WorkerLane, keys
from tests.integration.storage.lanes import EMBED, Hands, embed, lane_settings, run, started
from tests.services import wait_until
from workers.doctor import single_images
from workers.engine import load_engine
from workers.giving_way import giving_way
from workers.interactive import lane as interactive
from workers.interactive.answers import json_reply
from workers.interactive.deadlines import check_time
from workers.interactive.lane import InteractiveWorker, build_answers


class Answering:
    """Stands for the network and its answers."""

    def __init__(self) -> None:
        self.segmenter = SimpleNamespace(hits=3, misses=2, forget=lambda *_: None)
        self.seconds_left: list[float] = []

    def answer(self, asked: Any, *, files: Any, owner: str, deadline: float) -> Any:
        check_time(deadline)
        self.seconds_left.append(deadline - time.monotonic())
        self.segmenter.hits += 1
        return json_reply({"files": len(files)})


@pytest.fixture
def lane(broker_url: str) -> Iterator[WorkerLane]:
    lane = WorkerLane(lane_settings(broker_url), name="test", host="here")
    yield lane
    lane.close()


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


def worker(lane: WorkerLane, build: Any = Answering, **options: Any) -> Any:
    return InteractiveWorker(lane, build, end=options.pop("end", lambda: None))


def request(broker: redis.Redis, *, seconds: int = 30) -> str:
    """Whose answer is awaited for so long."""
    asked = LaneRequest(id="r1", key_id="key_1", reply_to="mine", asked=EMBED)
    broker.hset(keys.request("r1"), mapping={"asked": asked.model_dump_json(), "file0": b"picture"})
    broker.expire(keys.request("r1"), seconds + keys.SLACK_SECONDS)
    return "r1"


def answered(broker: redis.Redis) -> tuple[int, bytes]:
    message = broker.lpop("mine")
    assert isinstance(message, bytes)
    head, _, body = message.partition(b"\n")
    return LaneAnswer.model_validate_json(head).status, body


def test_it_answers_once_and_tells_what_its_network_was_spared(
    lane: WorkerLane, broker: redis.Redis
) -> None:
    made = worker(lane)
    made.warm_up()
    request_id = request(broker)
    made.answer(request_id)
    made.answer(request_id)  # the message came twice
    assert answered(broker) == (200, b'{"files":1}')
    assert broker.llen("mine") == 0
    assert broker.hgetall(keys.COUNTS) == {b"embedding_hits": b"1"}


def test_what_nobody_waits_for_any_more_is_not_computed(
    lane: WorkerLane, broker: redis.Redis
) -> None:
    made = worker(lane)
    made.answer(request(broker, seconds=-1))
    assert broker.exists(keys.request("r1")), "the broker has it still"
    assert broker.llen("mine") == 0
    assert made._answers is None


@pytest.mark.parametrize("minutes", [-10, 10])
def test_hosts_may_disagree_about_the_time_by_minutes(
    lane: WorkerLane, broker_url: str, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """The clock of the worker's thread is not that of the API's."""
    clock, of_worker, says = time.time, threading.local(), Answering()
    monkeypatch.setattr(time, "time", lambda: clock() + getattr(of_worker, "seconds", 0))

    def work(request_id: str) -> None:
        of_worker.seconds = 60 * minutes
        assert abs(time.time() - clock()) > 500
        worker(lane, lambda: says).answer(request_id)

    async def ask() -> Answer:
        settings = lane_settings(broker_url, interactive_seconds=20)
        async with started(settings) as [front]:
            asking = asyncio.create_task(embed(front))
            hands = Hands(settings)
            await asyncio.to_thread(work, await asyncio.to_thread(hands.hear))
            hands.close()
            return await asking

    assert run(ask()).status == 200
    [left] = says.seconds_left
    assert 5 < left <= 20


def test_a_heart_goes_on_beating_whatever_happens(
    lane: WorkerLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactive, "BEAT_SECONDS", 0.01)
    made, since = worker(lane), list[float]()
    ends = iter(
        [redis.ConnectionError(), RuntimeError("any"), 5.0, ValueError("other"), SystemExit()]
    )

    def beat(last: float) -> float:
        since.append(last)
        match next(ends):
            case float(now):
                return now
            case error:
                raise error

    made.beat = beat
    with pytest.raises(SystemExit):
        made._beat_for_ever()
    assert since == [0.0, 0.0, 0.0, 5.0, 5.0]


def test_a_model_that_cannot_be_had_is_said_and_tried_again(
    lane: WorkerLane, broker: redis.Redis
) -> None:
    tries: list[int] = []

    def build() -> Answering:
        tries.append(1)
        if len(tries) < 3:
            raise InvalidRequest("model_unavailable", "no such folder: /secret/path")
        return Answering()

    made = worker(lane, build)
    made.warm_up()
    made.answer(request(broker))
    status, body = answered(broker)
    assert status == 503
    assert b"secret" not in body
    made.answer(request(broker))
    assert answered(broker)[0] == 200


def test_what_a_key_clears_is_forgotten_with_the_next_beat(
    lane: WorkerLane, broker_url: str
) -> None:
    made = worker(lane)
    made.warm_up()
    forgotten: list[str] = []
    made._answers.segmenter.forget = forgotten.append
    owner = lane.owner("key_1")
    last = made.beat(0.0)

    async def clear() -> None:
        async with started(lane_settings(broker_url)) as [front]:
            await front.clear("key_1")

    run(clear())
    made.beat(made.beat(last))
    assert forgotten == [owner]


def test_a_busy_worker_lets_bulk_workers_know(lane: WorkerLane, broker: redis.Redis) -> None:
    go_on = threading.Event()

    def build() -> Answering:
        go_on.wait(30)
        return Answering()

    made = worker(lane, build)
    thread = threading.Thread(target=made.answer, args=(request(broker),))
    thread.start()
    wait_until(lambda: broker.hget(keys.request("r1"), "taken_by"))
    broker.delete(keys.clicks("here"))
    made.beat(0.0)
    assert lane.clicks_come()
    go_on.set()
    thread.join()


def test_an_answer_outlasts_a_broker_that_is_away_for_a_moment(
    lane: WorkerLane, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver, tries = lane.answer, list[int]()

    def away_at_first(*arguments: Any, **options: Any) -> None:
        tries.append(1)
        if len(tries) < 4:
            raise redis.ConnectionError
        deliver(*arguments, **options)

    monkeypatch.setattr(lane, "answer", away_at_first)
    worker(lane).answer(request(broker))
    assert answered(broker)[0] == 200
    assert broker.hget(keys.COUNTS, "embedding_hits") == b"1", "told once"


@pytest.mark.parametrize("error", ["CUDA error: unspecified launch failure", "any other"])
def test_a_worker_whose_device_is_lost_ends(
    lane: WorkerLane, broker: redis.Redis, error: str
) -> None:
    ended: list[bool] = []
    made = worker(lane, end=lambda: ended.append(True))
    made.warm_up()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(error)

    made._answers.answer = fail
    made.answer(request(broker))
    assert answered(broker) == (500, b'{"message":"Internal error."}')
    made.beat(0.0)
    assert bool(ended) is ("CUDA" in error)


def test_a_worker_that_does_not_get_done_ends(
    lane: WorkerLane, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactive, "STUCK_SECONDS", 0.3)
    go_on, ended = threading.Event(), list[bool]()

    def build() -> Answering:
        go_on.wait(30)
        return Answering()

    made = worker(lane, build, end=lambda: ended.append(True))
    thread = threading.Thread(target=made.answer, args=(request(broker),))
    thread.start()
    wait_until(lambda: broker.hget(keys.request("r1"), "taken_by"))
    made.beat(0.0)
    assert not ended
    time.sleep(0.4)
    made.beat(0.0)
    assert ended
    go_on.set()
    thread.join()


def test_taking_twice_in_one_call_is_taking_once(lane: WorkerLane, broker: redis.Redis) -> None:
    """As the client does when the broker's word was lost on its way."""
    taken_once, args = lane._take, []

    def said_again(**call: Any) -> Any:
        args.append(call)
        taken_once(**call)
        return taken_once(**call)

    lane._take = said_again  # type: ignore[assignment]
    assert lane.take(request(broker)) is not None
    assert lane.take("r1") is None, "another call, another token"


def test_single_images_have_a_limit_of_pixels_of_their_own(
    lane: WorkerLane, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    monkeypatch.setattr(interactive, "limit_pixels_at_once", limits.append)
    settings = lane_settings(broker_url, max_request_image_pixels=70_000)
    engines = SimpleNamespace(engine=lambda _: load_engine("demo-sam3", device="cpu", threads=1))
    held: Any = SimpleNamespace(settings=settings, lane=lane, engines=engines)
    answers = build_answers(held)
    large = draw_scene(0, size=300).encoded("PNG")
    reply = answers.answer(EMBED, files=[large], owner="me", deadline=time.monotonic() + 60)
    assert reply.status == 400
    assert b"300 x 300 pixels, more than the limit of 70000" in reply.body
    assert answers.max_pixels == 70_000
    assert limits == [140_000]


def test_the_doctor_says_whether_a_worker_lives(lane: WorkerLane, broker_url: str) -> None:
    settings = lane_settings(broker_url)
    assert single_images(settings).detail == "no interactive worker lives: requests get 503"
    lane.beat()
    found = single_images(settings)
    assert (found.ok, found.detail) == (True, "1 interactive worker(s) for demo-sam3")
    away = lane_settings(broker_url.rpartition(":")[0] + ":1/0")
    assert single_images(away).detail.startswith("not known")


class Threads:
    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.used: list[int | None] = []

    def use_threads(self, count: int | None) -> None:
        self.used.append(count)


@contextmanager
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr("workers.giving_way.LOOK_SECONDS", 0.02)
        yield


def test_a_bulk_worker_steps_back_while_clicks_come(
    lane: WorkerLane, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = Threads()
    with quick_looks(monkeypatch), giving_way(engine, lane):
        lane.click()
        wait_until(lambda: engine.used == [1])
        broker.delete(keys.clicks("here"))
        wait_until(lambda: engine.used == [1, None])
        lane.click()
        wait_until(lambda: engine.used == [1, None, 1])
    assert engine.used == [1, None, 1, None], "the next shard begins with all threads"


def test_a_bulk_worker_on_a_gpu_goes_on_as_it_was(lane: WorkerLane) -> None:
    engine: Any = Threads("cuda")
    lane.click()
    with giving_way(engine, lane):
        pass
    assert engine.used == []
