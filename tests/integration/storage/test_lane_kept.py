"""What callers name is kept for them, for a time and within a budget, and for nobody else."""

from collections.abc import Iterator

import pytest
import redis

from domain.interactive import LaneRequest
from storage.lane import Shelf, WorkerLane, keys
from tests.integration.storage.lanes import EMBED, lane_settings, run, started
from tests.services import wait_until

MIB = 2**20


@pytest.fixture
def lane(broker_url: str) -> Iterator[WorkerLane]:
    lane = WorkerLane(lane_settings(broker_url), name="test")
    yield lane
    lane.close()


def shelf(
    broker: redis.Redis, *, seconds: int = 100, budget_bytes: int = 100, most: int = 100
) -> Shelf:
    return Shelf(broker, "things", seconds=seconds, budget_bytes=budget_bytes, most=most)


def kept(shelf: Shelf, owner: str) -> list[str]:
    return [name for name in shelf.names(owner) if shelf.mark(owner, name) is not None]


def test_a_thing_comes_back_with_its_mark(broker: redis.Redis) -> None:
    things = shelf(broker)
    things.put("me", "a", mark="digest", data=b"\0\xff")
    found = things.get("me", "a")
    assert found is not None
    assert (found.mark, found.data) == ("digest", b"\0\xff")
    assert things.mark("me", "a") == "digest"


def test_what_has_the_same_name_is_replaced_and_counts_once(broker: redis.Redis) -> None:
    things = shelf(broker, budget_bytes=100)
    for number in range(10):
        things.put("me", "a", mark=str(number), data=b"x" * 60)
    things.put("me", "b", mark="", data=b"x" * 40)
    assert kept(things, "me") == ["a", "b"]
    assert things.mark("me", "a") == "9"


def test_over_the_number_the_least_recently_used_goes_first(broker: redis.Redis) -> None:
    things = shelf(broker, most=3)
    for name in "abc":
        things.put("me", name, mark="", data=b"x")
    things.mark("me", "a")
    for name in "ad":  # another of the same name is no further one
        things.put("me", name, mark="", data=b"x")
    things.put("you", "e", mark="", data=b"x")
    assert kept(things, "me") == ["c", "a", "d"]


def test_over_the_budget_the_least_recently_used_goes_first(broker: redis.Redis) -> None:
    things = shelf(broker, budget_bytes=100)
    for name in "abc":
        things.put("me", name, mark="", data=b"x" * 30)
    things.mark("me", "a")
    things.put("me", "d", mark="", data=b"x" * 50)
    assert kept(things, "me") == ["a", "d"]


def test_what_is_larger_than_the_budget_is_not_kept_and_costs_the_others_nothing(
    broker: redis.Redis,
) -> None:
    things = shelf(broker, budget_bytes=100)
    things.put("me", "a", mark="", data=b"x")
    things.put("me", "b", mark="", data=b"x" * 101)
    assert kept(things, "me") == ["a"]


def test_a_budget_is_one_owners_alone(broker: redis.Redis) -> None:
    things = shelf(broker, budget_bytes=100)
    for owner in ("me", "you"):
        things.put(owner, "a", mark=owner, data=b"x" * 80)
    assert [things.mark(owner, "a") for owner in ("me", "you")] == ["me", "you"]
    assert things.get("somebody", "a") is None


def test_using_a_thing_renews_its_time(broker: redis.Redis) -> None:
    things = shelf(broker, seconds=2, budget_bytes=100)
    things.put("me", "a", mark="", data=b"x")
    things.put("me", "b", mark="", data=b"x")
    wait_until(lambda: things.mark("me", "a") is not None and kept_raw(broker, "me") == {"a"})
    things.put("me", "c", mark="", data=b"x" * 99)
    assert kept(things, "me") == ["a", "c"], "what has expired counts no more"


def kept_raw(broker: redis.Redis, owner: str) -> set[str]:
    prefix = f"{keys.shelf('things', owner)}:"
    return {key.decode().removeprefix(prefix) for key in broker.keys(f"{prefix}?")}


def test_everything_that_is_kept_expires(lane: WorkerLane, broker: redis.Redis) -> None:
    owner = lane.owner("key_1")
    lane.images.put(owner, "a", mark="digest", data=b"x")
    lane.logits.put(owner, "b", mark="2x2", data=b"x")
    names = broker.keys(f"{keys.PREFIX}*")
    assert len(names) == 7
    assert all(0 < broker.ttl(name) <= 2 * 3600 for name in names)


def test_budget_and_time_come_from_the_settings(broker_url: str, broker: redis.Redis) -> None:
    settings = lane_settings(broker_url, kept_image_seconds=50, kept_image_bytes=10)
    lane = WorkerLane(settings, name="test")
    lane.images.put("me", "a", mark="", data=b"x" * 6)
    lane.images.put("me", "b", mark="", data=b"x" * 6)
    assert kept(lane.images, "me") == ["b"]
    assert 0 < broker.ttl(f"{keys.shelf('images', 'me')}:b") <= 50
    lane.close()


def test_all_workers_know_an_owner_by_the_same_name_and_keys_by_different_ones(
    lane: WorkerLane, broker_url: str
) -> None:
    other = WorkerLane(lane_settings(broker_url), name="test")
    assert lane.owner("key_1") == other.owner("key_1")
    assert lane.owner("key_1") != lane.owner("key_2")
    assert lane.name != other.name, "also when it has the same host and process id"
    other.close()


def test_what_a_key_clears_is_gone_everywhere_at_once_and_for_that_key_only(
    lane: WorkerLane, broker_url: str, broker: redis.Redis
) -> None:
    owners = {key_id: lane.owner(key_id) for key_id in ("key_1", "key_2")}
    for owner in owners.values():
        lane.images.put(owner, "a", mark="digest", data=b"x")
        lane.logits.put(owner, "b", mark="1x1", data=b"x")

    async def clear() -> None:
        async with started(lane_settings(broker_url)) as [front]:
            await front.clear("key_1")
            await front.clear("key_3")  # has nothing

    run(clear())
    assert lane.owner("key_1") != owners["key_1"]
    assert lane.owner("key_2") == owners["key_2"]
    assert lane.images.get(owners["key_1"], "a") is None
    assert lane.images.get(owners["key_2"], "a") is not None
    assert broker.keys(f"*{owners['key_1']}*") == [], "the memory is free again"
    assert lane.cleared_since(0) == [owners["key_1"]]


def test_workers_hear_once_what_was_cleared(lane: WorkerLane, broker_url: str) -> None:
    async def clear(key_id: str) -> None:
        async with started(lane_settings(broker_url)) as [front]:
            await front.clear(key_id)

    first = lane.owner("key_1")
    run(clear("key_1"))
    moment = lane.beat()
    second = lane.owner("key_2")
    run(clear("key_2"))
    assert lane.cleared_since(0) == [first, second]
    assert lane.cleared_since(moment) == [second]


def test_bulk_workers_hear_for_some_seconds_of_clicks_that_their_own_host_takes(
    broker_url: str, broker: redis.Redis
) -> None:
    names = {"taking": "one", "beside": "one", "busy": "two", "too late": "two"}
    lanes = {
        name: WorkerLane(lane_settings(broker_url), name=name, host=host)
        for name, host in names.items()
    }
    asked = LaneRequest(id="r", key_id="key_1", reply_to="mine", asked=EMBED)
    broker.hset(keys.request("r"), "asked", asked.model_dump_json())
    broker.expire(keys.request("r"), 30)
    assert not any(lane.clicks_come() for lane in lanes.values())
    assert lanes["taking"].take("r")
    assert lanes["too late"].take("r") is None
    assert [name for name, lane in lanes.items() if lane.clicks_come()] == ["taking", "beside"]
    assert 0 < broker.ttl(keys.clicks("one")) <= keys.CLICKS_SECONDS
    for lane in lanes.values():
        lane.close()
