"""One process of the lane, on a real broker, moved by hand."""

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
from storage.lane import WorkerLane, keys
from tests.integration.storage.lanes import EMBED, lane_settings, run, started
from tests.services import wait_until
from workers.doctor import single_images
from workers.engine import load_engine
from workers.giving_way import giving_way
from workers.interactive import lane as interactive
from workers.interactive.answers import json_reply
from workers.interactive.lane import InteractiveWorker, build_answers


class Answering:
    """Stands for the network and its answers."""

    def __init__(self) -> None:
        self.segmenter = SimpleNamespace(hits=3, misses=2, forget=lambda *_: None)
        self.owners: list[str] = []

    def answer(self, asked: Any, *, files: Any, owner: str, deadline: float) -> Any:
        self.owners.append(owner)
        self.segmenter.hits += 1
        return json_reply({"files": len(files)})


@pytest.fixture
def lane(broker_url: str) -> Iterator[WorkerLane]:
    lane = WorkerLane(lane_settings(broker_url), name="test")
    yield lane
    lane.close()


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


def worker(lane: WorkerLane, build: Any = Answering, **options: Any) -> Any:
    return InteractiveWorker(lane, build, end=options.pop("end", lambda: None))


def request(broker: redis.Redis, *, deadline_in: float = 30.0) -> str:
    asked = LaneRequest(
        id="r1", key_id="key_1", deadline=time.time() + deadline_in, reply_to="mine", asked=EMBED
    )
    broker.hset(keys.request("r1"), mapping={"asked": asked.model_dump_json(), "file0": b"picture"})
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
    made.answer(request(broker, deadline_in=-1))
    assert broker.llen("mine") == 0
    assert made._answers is None


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


def test_a_worker_that_hears_no_messages_ends(
    lane: WorkerLane, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactive, "DEAF_SECONDS", 0.3)
    ended: list[bool] = []
    made = worker(lane, end=lambda: ended.append(True))
    time.sleep(0.4)
    made.beat(0.0)
    assert not ended, "nothing waits"
    broker.rpush(keys.queue(lane.model), "message")
    made.beat(0.0)
    time.sleep(0.4)
    made.beat(0.0)
    assert ended


def test_a_busy_worker_is_not_deaf_and_lets_bulk_workers_know(
    lane: WorkerLane, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactive, "DEAF_SECONDS", 0.1)
    go_on, ended = threading.Event(), list[bool]()

    def build() -> Answering:
        go_on.wait(30)
        return Answering()

    made = worker(lane, build, end=lambda: ended.append(True))
    thread = threading.Thread(target=made.answer, args=(request(broker),))
    thread.start()
    wait_until(lambda: broker.hget(keys.request("r1"), "taken_by"))
    broker.rpush(keys.queue(lane.model), "message")
    broker.delete(keys.CLICKS)
    time.sleep(0.2)
    made.beat(0.0)
    assert lane.clicks_come()
    assert not ended
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
    reply = answers.answer(EMBED, files=[large], owner="me", deadline=time.time() + 60)
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
        broker.delete(keys.CLICKS)
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
