"""Workers that die, messages that get lost, brokers that are away or hang."""

import asyncio
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from storage.lane import Answer, FrontLane, LaneSilent, keys
from tests.integration.storage.lanes import Echo, Hands, embed, lane_settings, run, started
from tests.services import REPOSITORY


@contextmanager
def doomed_worker(broker_url: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.integration.storage.lane_worker", broker_url]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def taken_and_killed(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "taken\n"
    process.kill()


def test_what_a_killed_worker_had_in_hand_is_answered_by_another(broker_url: str) -> None:
    async def work() -> tuple[Answer, dict[str, int]]:
        async with started(lane_settings(broker_url)) as [front]:
            with doomed_worker(broker_url) as doomed:
                asking = asyncio.create_task(embed(front, b"picture"))
                await taken_and_killed(doomed)
            with Echo(front.settings):
                return await asking, await front.counts()

    answer, counts = run(work())
    assert answer.body == b"picture"
    assert counts["retried"] == 1


def test_a_request_that_two_workers_died_of_is_not_given_to_a_third(
    broker_url: str, hands: Hands
) -> None:
    async def work() -> None:
        async with started(lane_settings(broker_url)) as [front]:
            asking = asyncio.create_task(embed(front))
            for _ in range(2):
                with doomed_worker(broker_url) as doomed:
                    await taken_and_killed(doomed)
            with pytest.raises(LaneSilent, match="lost twice"):
                await asking

    run(work())
    with pytest.raises(queue.Empty):
        hands.hear(seconds=0.5)


def test_a_worker_that_lives_is_waited_for_to_the_end(broker_url: str, hands: Hands) -> None:
    async def work() -> Answer:
        async with started(lane_settings(broker_url)) as [front]:
            asking = asyncio.create_task(embed(front))
            taken = hands.lane.take(await asyncio.to_thread(hands.hear))
            assert taken is not None
            beats = round(keys.SILENT_SECONDS / keys.BEAT_SECONDS) + 3
            for _ in range(beats):  # longer than a silent one would be waited for
                hands.lane.beat()
                await asyncio.sleep(keys.BEAT_SECONDS)
            hands.lane.answer(taken.request, b"late but sure")
            assert "retried" not in await front.counts()
            return await asking

    assert run(work()).body == b"late but sure"


def test_requests_outlive_an_emptied_broker(broker_url: str, broker: redis.Redis) -> None:
    async def work() -> tuple[Answer, dict[str, int]]:
        async with started(lane_settings(broker_url)) as [front]:
            asking = asyncio.create_task(embed(front, b"picture"))
            while not broker.llen(keys.queue("demo-sam3")):
                await asyncio.sleep(0.01)
            broker.flushall()
            with Echo(front.settings):
                return await asking, await front.counts()

    answer, counts = run(work())
    assert answer.body == b"picture"
    assert counts["retried"] == 1


def test_a_lost_message_is_sent_again_and_is_no_retry(broker_url: str, broker: redis.Redis) -> None:
    async def work() -> tuple[Answer, dict[str, int]]:
        async with started(lane_settings(broker_url)) as [front]:
            asking = asyncio.create_task(embed(front, b"picture"))
            while not broker.delete(keys.queue("demo-sam3")):
                await asyncio.sleep(0.01)
            with Echo(front.settings):
                return await asking, await front.counts()

    answer, counts = run(work())
    assert answer.body == b"picture"
    assert "retried" not in counts


def test_a_broker_that_cuts_every_connection_is_connected_to_again(
    broker_url: str, broker: redis.Redis
) -> None:
    async def work() -> list[bytes]:
        async with started(lane_settings(broker_url)) as [front]:
            with Echo(front.settings):
                before = await embed(front, b"before")
                broker.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                return [before.body, (await embed(front, b"after")).body]

    assert run(work()) == [b"before", b"after"]


def test_a_broker_that_is_away_is_a_silent_lane(broker_url: str) -> None:
    away = broker_url.rpartition(":")[0] + ":1/0"

    async def work() -> None:
        front = FrontLane(lane_settings(away))
        with pytest.raises(LaneSilent):
            await embed(front)
        with pytest.raises(LaneSilent):
            await front.counts()
        with pytest.raises(LaneSilent):
            await front.clear("key_1")
        await front.stop()

    run(work())


def test_a_broker_without_memory_is_a_silent_lane_until_it_has_some(
    broker_url: str, broker: redis.Redis
) -> None:
    async def work() -> Answer:
        async with started(lane_settings(broker_url)) as [front]:
            broker.config_set("maxmemory", "1mb")
            try:
                with pytest.raises(LaneSilent):
                    await embed(front, b"x" * 2**20)
            finally:
                broker.config_set("maxmemory", "0")
            with Echo(front.settings):
                return await embed(front, b"room")

    assert run(work()).body == b"room"


def test_a_broker_that_takes_connections_and_never_answers_is_a_silent_lane_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage.lane.front._ASIDE_SECONDS", 0.3)

    async def work(port: int) -> float:
        front = FrontLane(lane_settings(f"redis://127.0.0.1:{port}/0", interactive_seconds=0.3))
        before = time.monotonic()
        asked = await asyncio.gather(
            front.counts(), front.clear("key_1"), embed(front), return_exceptions=True
        )
        assert [type(end) for end in asked] == [LaneSilent] * 3
        await front.stop()
        return time.monotonic() - before

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert run(work(listener.getsockname()[1])) < 3


def test_an_answer_that_cannot_be_read_keeps_no_later_one_from_its_caller(
    broker_url: str, broker: redis.Redis
) -> None:
    async def work() -> Answer:
        async with started(lane_settings(broker_url)) as [front]:
            broker.rpush(front._reply_to, b"no answer at all", b"\xff\n", b"")
            with Echo(front.settings):
                return await embed(front, b"picture")

    assert run(work()).body == b"picture"


def test_looking_after_requests_goes_on_after_any_error(
    broker_url: str, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.lane.front.LOOK_SECONDS", 0.05)
    errors = iter([RuntimeError("any"), TypeError("other"), redis.ConnectionError()])

    async def work() -> Answer:
        async with started(lane_settings(broker_url)) as [front]:
            look = front._look_script

            async def failing_at_first(**call: Any) -> Any:
                for error in errors:
                    raise error
                return await look(**call)

            front._look_script = failing_at_first
            asking = asyncio.create_task(embed(front, b"picture"))
            while not broker.delete(keys.queue("demo-sam3")):
                await asyncio.sleep(0.01)
            with Echo(front.settings):  # hears of it when it is rung for again
                return await asking

    assert run(work()).body == b"picture"
    assert next(errors, None) is None
