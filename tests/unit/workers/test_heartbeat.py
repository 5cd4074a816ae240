import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from sqlalchemy.exc import OperationalError

from domain.errors import LeaseLost
from tests.services import wait_until
from workers.heartbeat import Heartbeat, Watch, heartbeat


@dataclass
class Held:
    """A lease whose holder can be looked at."""

    said: list[str] = field(default_factory=list)
    renewals: int = 0
    error: Exception | None = None
    at_renewal: Callable[[], object] = lambda: None  # in the heartbeat's own thread

    def renew(self) -> bool:
        self.renewals += 1
        self.at_renewal()
        if self.error:
            raise self.error
        return True

    def abandon(self) -> None:
        self.said.append("abandoned")

    def run(self, work: Callable[[Heartbeat], object]) -> None:
        watch = Watch("shard", 0.3, self.abandon, end=lambda: self.said.append("ended"))
        with heartbeat(self.renew, lease_seconds=0.06, watch=watch) as beat:
            work(beat)

    def beats(self, count: int) -> None:
        enough = self.renewals + count
        wait_until(lambda: self.renewals >= enough)


@pytest.fixture
def held() -> Held:
    return Held()


def test_work_that_stands_still_is_abandoned_and_its_process_ended(held: Held) -> None:
    def stand_still(beat: Heartbeat) -> None:
        beat.expect_progress()
        wait_until(lambda: "ended" in held.said)

    held.run(stand_still)
    assert held.said == ["abandoned", "ended"]


def test_work_that_goes_on_lives(held: Held) -> None:
    def go_on(beat: Heartbeat) -> None:
        beat.expect_progress()
        held.at_renewal = lambda: beat.progress() if held.renewals % 4 == 0 else None
        held.beats(60)

    held.run(go_on)
    assert held.said == []


def test_steps_within_a_long_batch_count_as_progress(held: Held) -> None:
    def compute(beat: Heartbeat) -> None:
        beat.expect_progress(lambda: held.renewals // 4)
        held.beats(60)

    held.run(compute)
    assert held.said == []


def test_loading_a_network_may_take_as_long_as_it_takes(held: Held) -> None:
    held.run(lambda _: held.beats(40))
    assert held.said == []


def test_a_process_ends_also_where_the_database_cannot_be_told(held: Held) -> None:
    def away() -> None:
        raise OperationalError("UPDATE shards", {}, Exception("the server is away"))

    held.abandon = away  # type: ignore[method-assign]

    def stand_still(beat: Heartbeat) -> None:
        beat.expect_progress()
        wait_until(lambda: "ended" in held.said)

    held.run(stand_still)
    assert held.said == ["ended"]


def test_a_lost_lease_is_not_renewed_but_its_holder_still_watched(held: Held) -> None:
    held.error = LeaseLost("another's")

    def stand_still(beat: Heartbeat) -> None:
        beat.expect_progress()
        wait_until(beat.over.is_set)
        wait_until(lambda: "ended" in held.said)

    held.run(stand_still)
    assert held.renewals == 1


def test_a_database_that_is_away_is_no_lost_lease(held: Held) -> None:
    held.error = OperationalError("UPDATE shards", {}, Exception("the server is away"))
    over: list[bool] = []

    def go_on(beat: Heartbeat) -> None:
        held.beats(5)
        over.append(beat.over.is_set())

    held.run(go_on)
    assert over == [False]
    assert not any(thread.name == "heartbeat" for thread in threading.enumerate())
