import asyncio
import json
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from domain.interactive import EmbedRequest, ImageAsked
from storage.lane import Answer, FrontLane, LaneFull, LaneSilent, keys
from tests.integration.storage.lanes import EMBED, Echo, Hands, embed, lane_settings, run, started
from tests.services import REPOSITORY


@pytest.fixture
def hands(broker_url: str) -> Iterator[Hands]:
    hands = Hands(lane_settings(broker_url))
    yield hands
    hands.close()


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


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
    assert left <= {keys.COUNTS, keys.CLICKS, keys.workers("demo-sam3")}


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


def test_an_answer_that_the_broker_could_not_carry_is_refused_instead(
    broker_url: str, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.lane.worker.MAX_ANSWER_BYTES", 1000)

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


def test_messages_and_requests_carry_a_time_to_live(broker_url: str, broker: redis.Redis) -> None:
    async def work() -> None:
        async with started(lane_settings(broker_url, interactive_seconds=7)) as [front]:
            asking = asyncio.create_task(embed(front))
            while not (message := broker.lindex(keys.queue("demo-sam3"), 0)):
                await asyncio.sleep(0.01)
            assert json.loads(message)["headers"]["expires"] is not None
            [request] = broker.keys(keys.request("*"))
            assert 7 < broker.ttl(request) <= 7 + keys.SLACK_SECONDS
            asking.cancel()

    run(work())


def test_answers_that_nobody_fetches_go_away(hands: Hands, broker: redis.Redis) -> None:
    from domain.interactive import LaneRequest

    asked = EmbedRequest(image=ImageAsked(image_id="a"))
    request = LaneRequest(id="r", key_id="k", deadline=0, reply_to="nobody", asked=asked)
    hands.lane.answer(request, b"body")
    assert 0 < broker.ttl("nobody") <= keys.REPLIES_SECONDS


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
