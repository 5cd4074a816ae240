"""What the lane takes on: requests, bytes and seconds, of all and of one key."""

import asyncio
import json
import time

import pytest
import redis

from storage.lane import Answer, LaneFull, LaneSilent, keys
from tests.integration.storage.lanes import Hands, embed, lane_settings, run, started


def test_a_full_lane_refuses_before_it_writes_anything(
    broker_url: str, broker: redis.Redis
) -> None:
    settings = lane_settings(broker_url, interactive_waiting=2, interactive_seconds=2)

    async def work() -> int:
        async with started(settings) as [front]:
            waiting = [asyncio.create_task(embed(front)) for _ in range(2)]
            while broker.llen(keys.queue("demo-sam3")) < 2:
                await asyncio.sleep(0.01)
            before = len(broker.keys(keys.request("*")))
            with pytest.raises(LaneFull) as refused:
                await embed(front)
            assert len(broker.keys(keys.request("*"))) == before == 2
            await asyncio.gather(*waiting, return_exceptions=True)
            assert (await front.counts())["refused_full"] == 1
            return refused.value.retry_after_seconds

    assert run(work()) >= 1


def test_files_that_wait_are_bounded_in_bytes(broker_url: str) -> None:
    settings = lane_settings(broker_url, interactive_bytes=100, interactive_seconds=1)

    async def work() -> None:
        async with started(settings) as [front]:
            waiting = asyncio.create_task(embed(front, b"x" * 60))
            await asyncio.sleep(0.1)
            with pytest.raises(LaneFull):
                await embed(front, b"x" * 60)
            with pytest.raises(LaneSilent):
                await waiting
            with pytest.raises(LaneSilent):  # there is room again
                await embed(front, b"x" * 60)

    run(work())


def test_slow_requests_of_one_key_leave_the_worker_to_other_keys(
    broker_url: str, hands: Hands
) -> None:
    """Of eight, four are sent; the next comes when one of them is answered."""

    async def work() -> list[bytes]:
        async with started(lane_settings(broker_url)) as [front]:
            slow = [asyncio.create_task(embed(front, b"slow")) for _ in range(8)]
            taken = [await hands.take() for _ in range(4)]
            other = asyncio.create_task(embed(front, b"quick", key_id="key_2"))
            quick = await hands.take()
            assert quick.request.key_id == "key_2"
            hands.lane.answer(quick.request, b"quick")
            answers = [(await other).body]
            for number in range(8):
                hands.lane.answer(taken[number].request, b"slow")
                if number < 4:
                    taken.append(await hands.take())
            return answers + [answer.body for answer in await asyncio.gather(*slow)]

    assert run(work()) == [b"quick", *[b"slow"] * 8]


def test_a_key_may_have_only_so_many_requests_outstanding(
    broker_url: str, broker: redis.Redis, hands: Hands
) -> None:
    settings = lane_settings(broker_url, interactive_per_key=5)

    async def work() -> None:
        async with started(settings) as [front]:
            asking = [asyncio.create_task(embed(front, str(n).encode())) for n in range(6)]
            with pytest.raises(LaneFull) as refused:
                await asking.pop()
            assert refused.value.retry_after_seconds >= 1
            other = asyncio.create_task(embed(front, key_id="key_2"))
            for _ in range(6):
                hands.lane.answer((await hands.take()).request, b"answer")
            await asyncio.gather(other, *asking)
            assert (await front.counts())["refused_full"] == 1
            one_more = asyncio.create_task(embed(front))
            hands.lane.answer((await hands.take()).request, b"there is room again")
            await one_more

    run(work())
    assert broker.keys(keys.request("*")) == []


def test_a_request_that_waits_for_its_own_key_has_the_same_time_as_others(
    broker_url: str, broker: redis.Redis
) -> None:
    async def work() -> float:
        async with started(lane_settings(broker_url, interactive_seconds=1)) as [front]:
            before = time.monotonic()
            asking = (embed(front) for _ in range(8))
            ends = await asyncio.gather(*asking, return_exceptions=True)
            assert [type(end) for end in ends] == [LaneSilent] * 8
            return time.monotonic() - before

    assert run(work()) < 3
    assert broker.keys(keys.request("*")) == []


def test_the_time_of_a_request_may_end_at_any_point_of_its_way(broker_url: str) -> None:
    """Also just when the broker answers: the cancel is not lost."""
    settings = lane_settings(broker_url, interactive_seconds=0.004, interactive_per_key=100)

    async def work() -> float:
        async with started(settings) as [front]:
            before = time.monotonic()
            for _ in range(20):
                asking = (embed(front) for _ in range(50))
                ends = await asyncio.gather(*asking, return_exceptions=True)
                assert {type(end) for end in ends} <= {LaneSilent, LaneFull}
            return time.monotonic() - before

    assert run(work()) < 15


def test_an_answer_that_the_broker_could_not_carry_is_refused_instead(
    broker_url: str, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.lane.worker.MAX_REPLY_BYTES", 1000)

    async def work() -> list[Answer]:
        async with started(lane_settings(broker_url)) as [front]:
            answers = []
            for size in (1000, 1001):
                asking = asyncio.create_task(embed(front))
                taken = await hands.take()
                hands.lane.answer(taken.request, b"x" * size, media_type="text/plain")
                answers.append(await asking)
            return answers

    carried, refused = run(work())
    assert (carried.status, len(carried.body)) == (200, 1000)
    assert (refused.status, refused.media_type) == (413, "application/json")
    assert "1001 bytes; 1000 are allowed" in json.loads(refused.body)["message"]


def test_a_request_that_nobody_answers_ends_at_its_deadline_and_is_not_taken_any_more(
    broker_url: str, hands: Hands, broker: redis.Redis
) -> None:
    async def work() -> float:
        async with started(lane_settings(broker_url, interactive_seconds=1)) as [front]:
            before = time.monotonic()
            with pytest.raises(LaneSilent):
                await embed(front)
            return time.monotonic() - before

    assert 0.9 < run(work()) < 3
    assert broker.keys(keys.request("*")) == []
    assert hands.lane.take(hands.hear()) is None
