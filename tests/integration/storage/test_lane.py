"""Requests and answers on their way through the broker."""

import asyncio
import json

import pytest
import redis

from domain.interactive import EmbedRequest, ImageAsked
from storage.lane import Answer, LaneSilent, keys
from tests.integration.storage.lanes import EMBED, Echo, Hands, embed, lane_settings, run, started


def test_an_answer_comes_back_as_it_was_given_bytes_and_all(broker_url: str, hands: Hands) -> None:
    data = bytes(range(256)) * 4

    async def work() -> Answer:
        async with started(lane_settings(broker_url)) as [front]:
            asking = asyncio.create_task(embed(front, data))
            taken = hands.lane.take(await asyncio.to_thread(hands.hear))
            assert taken is not None
            assert (taken.request.key_id, taken.request.asked) == ("key_1", EMBED)
            assert taken.files == (data,)
            body = b"\n\0\xff\n" + data
            hands.lane.answer(
                taken.request, body, status=400, media_type="application/octet-stream"
            )
            return await asking

    answer = run(work())
    assert answer == Answer(400, "application/octet-stream", b"\n\0\xff\n" + data)


def test_nothing_of_an_answered_request_stays_in_the_broker(
    broker_url: str, broker: redis.Redis
) -> None:
    async def work() -> None:
        async with started(lane_settings(broker_url)) as [front]:
            with Echo(front.settings):
                assert (await embed(front, b"picture")).body == b"picture"

    run(work())
    left = {key.decode() for key in broker.keys(f"{keys.PREFIX}*")}
    clicks = {key.decode() for key in broker.keys(keys.clicks("*"))}
    assert left - clicks <= {keys.COUNTS, keys.workers("demo-sam3")}


def test_each_process_hears_its_own_answers_however_they_mix(broker_url: str) -> None:
    async def work() -> list[Answer]:
        async with started(lane_settings(broker_url), count=2) as fronts:
            with Echo(fronts[0].settings), Echo(fronts[0].settings):
                return await asyncio.gather(
                    *(
                        embed(fronts[n % 2], str(n).encode(), key_id=f"key_{n % 5}")
                        for n in range(40)
                    )
                )

    assert [answer.body for answer in run(work())] == [str(n).encode() for n in range(40)]


def test_a_request_that_cannot_be_read_is_answered_at_once(
    broker_url: str, broker: redis.Redis, hands: Hands
) -> None:
    async def work() -> Answer:
        async with started(lane_settings(broker_url)) as [front]:
            asking = asyncio.create_task(embed(front))
            request_id = await asyncio.to_thread(hands.hear)
            broker.hset(keys.request(request_id), "asked", "[" * 10_000)
            assert hands.lane.take(request_id) is None
            return await asyncio.wait_for(asking, 5)

    assert run(work()) == Answer(500, "application/json", b'{"message":"Internal error."}')
    assert broker.keys(keys.request("*")) == []


def test_a_caller_who_leaves_takes_the_request_along(broker_url: str, hands: Hands) -> None:
    async def work() -> None:
        async with started(lane_settings(broker_url)) as [front]:
            asking = asyncio.create_task(embed(front))
            request_id = await asyncio.to_thread(hands.hear)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert hands.lane.take(request_id) is None

    run(work())


def test_one_worker_alone_takes_a_request(broker_url: str, hands: Hands) -> None:
    other = Hands(lane_settings(broker_url), name="hands")

    async def work() -> None:
        async with started(lane_settings(broker_url, interactive_seconds=2)) as [front]:
            asking = asyncio.create_task(embed(front))
            request_id = await asyncio.to_thread(hands.hear)
            hands.lane.beat()
            assert hands.lane.take(request_id) is not None
            assert other.lane.take(request_id) is None
            with pytest.raises(LaneSilent):
                await asking

    run(work())
    other.close()


def test_of_two_answers_the_first_counts_and_later_ones_disturb_nobody(
    broker_url: str, hands: Hands
) -> None:
    async def work() -> list[bytes]:
        async with started(lane_settings(broker_url)) as [front]:
            asking = asyncio.create_task(embed(front))
            taken = hands.lane.take(await asyncio.to_thread(hands.hear))
            assert taken is not None
            for body in (b"first", b"second"):
                hands.lane.answer(taken.request, body)
            answers = [await asking]
            hands.lane.answer(taken.request, b"third")
            with Echo(front.settings):
                answers.append(await embed(front, b"next"))
            return [answer.body for answer in answers]

    assert run(work()) == [b"first", b"next"]


def test_requests_are_for_workers_of_the_same_model(broker_url: str) -> None:
    settings = lane_settings(broker_url, interactive_seconds=1)
    real = lane_settings(broker_url, models=["facebook/sam3"])

    async def work() -> None:
        async with started(settings) as [front]:
            with Echo(real), pytest.raises(LaneSilent):
                await embed(front)

    run(work())


def test_counts_say_what_was_asked_and_who_lives(broker_url: str) -> None:
    async def work() -> tuple[dict[str, int], dict[str, int]]:
        async with started(lane_settings(broker_url)) as [front]:
            with Echo(front.settings):
                await embed(front)
                alive = await front.counts()
            await asyncio.sleep(keys.SILENT_SECONDS + 0.2)
            return alive, await front.counts()

    alive, later = run(work())
    assert alive == {"requests_embed": 1, "waiting": 0, "workers": 1}
    assert later == {"requests_embed": 1, "waiting": 0, "workers": 0}


def test_requests_carry_a_time_to_live_and_messages_none_that_hosts_would_judge_by_their_clocks(
    broker_url: str, broker: redis.Redis
) -> None:
    async def work() -> None:
        async with started(lane_settings(broker_url, interactive_seconds=7)) as [front]:
            asking = asyncio.create_task(embed(front))
            while not (message := broker.lindex(keys.queue("demo-sam3"), 0)):
                await asyncio.sleep(0.01)
            assert json.loads(message)["headers"]["expires"] is None
            [request] = broker.keys(keys.request("*"))
            assert 7 < broker.ttl(request) <= 7 + keys.SLACK_SECONDS
            asking.cancel()

    run(work())


def test_answers_that_nobody_fetches_go_away(hands: Hands, broker: redis.Redis) -> None:
    from domain.interactive import LaneRequest

    asked = EmbedRequest(image=ImageAsked(image_id="a"))
    request = LaneRequest(id="r", key_id="k", reply_to="nobody", asked=asked)
    hands.lane.answer(request, b"body")
    assert 0 < broker.ttl("nobody") <= keys.REPLIES_SECONDS
