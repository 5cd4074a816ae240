"""Workers that live but are of no use any more end themselves, and the next one does the work."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from domain.lifecycle import JobStatus
from storage.jobs import Job
from tests.integration.workers.crew import Crew, open_crew
from tests.services import REPOSITORY, wait_until
from workers import shard_run
from workers.liveness import Liveness


@pytest.fixture
def crew(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Crew]:
    with open_crew(database_url, broker_url, tmp_path) as crew:
        yield crew


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


def status(crew: Crew, job: Job) -> JobStatus:
    return crew.workplace.again(job).status


def lost_slices(crew: Crew) -> list[int]:
    with crew.workplace.runtime.database.begin() as connection:
        found = text("SELECT count FROM slices WHERE status = 'lost'")
        return list(connection.execute(found).scalars())


def test_a_worker_that_lost_its_consumer_ends_and_the_next_one_does_the_work(crew: Crew) -> None:
    first = crew.start("planning", MASKMILL_DEAF_SECONDS="1")
    crew.bells.control.cancel_consumer("planning", reply=True)
    job = crew.workplace.submit({"type": "prefix", "uri": "null://10"})
    crew.publish()
    assert first.wait(30) == 1
    assert "worker.deaf" in crew.log
    assert status(crew, job) is JobStatus.QUEUED
    crew.start("planning")
    wait_until(lambda: status(crew, job) is JobStatus.RUNNING)


@pytest.mark.parametrize(
    ("queue", "consumed"),
    [("bulk", "bulk:null"), ("interactive", "interactive:demo-sam3")],
)
def test_a_worker_is_deaf_by_the_queues_of_its_models(
    crew: Crew, broker: redis.Redis, queue: str, consumed: str
) -> None:
    models = {"MASKMILL_MODELS": consumed.partition(":")[2]}
    worker = crew.start(queue, MASKMILL_DEAF_SECONDS="1", **models)
    crew.bells.control.cancel_consumer(consumed, reply=True)
    broker.lpush(consumed, "a message")
    assert worker.wait(60) == 1
    assert "worker.deaf" in crew.log


def test_a_worker_whose_image_never_ends_is_ended_and_the_next_one_goes_on_at_once(
    crew: Crew,
) -> None:
    """The lease would hold it up for a minute."""
    folder = crew.workplace.folder / "images"
    folder.mkdir()
    for name in ("0.jpg", "1.jpg", "2-hang-worker.jpg", "3.jpg"):
        (folder / name).write_bytes(b"nobody looks")
    job = crew.plan(crew.workplace.submit_folder(folder))
    hanging = crew.run_shards(MASKMILL_STALL_SECONDS="0.6")
    assert hanging.wait(60) == 1
    assert "shard.stalled" in crew.log
    (folder / "2-hang-worker.jpg").unlink()
    assert crew.run_shards().wait(60) == 0
    assert (crew.progress(job).succeeded, crew.progress(job).failed) == (3, 1)
    assert lost_slices(crew) == [4], "what was in flight is suspected"


@pytest.mark.parametrize(
    ("run", "step", "bell"),
    [
        ("planning_run.plan_job", "_plan_turn", "maskmill.plan_job"),
        ("finish_run.finish_job", "_leave_results", "maskmill.finish_job"),
    ],
)
def test_planning_and_finishing_that_stand_still_are_given_up_at_once(
    crew: Crew, run: str, step: str, bell: str
) -> None:
    job = crew.workplace.submit({"type": "prefix", "uri": "null://10"})
    if run.startswith("finish"):
        crew.plan(job)
        shard_run.run_shards(crew.workplace.runtime)
    hanging = crew.run(
        f"""
import time
from workers import finish_run, planning_run
from workers.runtime import runtime
{run.partition(".")[0]}.{step} = lambda *_, **__: time.sleep(600)
{run}(runtime(), {job.id!r})
""",
        MASKMILL_STALL_SECONDS="0.6",
    )
    assert hanging.wait(60) == 1
    assert ".stalled" in crew.log
    with crew.workplace.runtime.database.begin() as connection:
        is_free = connection.execute(
            text("SELECT lease_expires_at <= now() FROM jobs")
        ).scalar_one()
        bells = connection.execute(text("SELECT task FROM outbox")).scalars().all()
    assert is_free
    assert bell in bells


@dataclass
class Idle:
    """A worker's liveness, moved by hand. `looks` says whether the worker was ended."""

    broker: redis.Redis
    ended: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.liveness = Liveness(
            self.broker,
            ("bulk:a", "bulk:b"),
            deaf_seconds=60,
            frozen_seconds=300,
            stopping=threading.Event(),
            end=lambda: self.ended.append(True),
        )

    def looks(self, count: int) -> bool:
        for _ in range(count):
            self.liveness.look()
        return bool(self.ended)


ENOUGH = 12  # looks of 5 s


def test_messages_that_lie_for_long_beside_an_idle_worker_end_it(broker: redis.Redis) -> None:
    idle = Idle(broker)
    assert not idle.looks(2 * ENOUGH), "nothing waits"
    broker.lpush("bulk:b", "a message")
    assert not idle.looks(ENOUGH - 1)
    assert idle.looks(1)


def test_a_busy_worker_is_not_deaf(broker: redis.Redis) -> None:
    idle = Idle(broker)
    broker.lpush("bulk:a", "a message")
    idle.liveness.task_begins()
    assert not idle.looks(3 * ENOUGH)
    idle.liveness.task_ends()
    assert not idle.looks(ENOUGH - 1)
    assert idle.looks(2)


def test_a_worker_that_hears_short_tasks_now_and_then_is_not_deaf(broker: redis.Redis) -> None:
    idle = Idle(broker)
    broker.lpush("bulk:a", "a message")
    for _ in range(5):
        assert not idle.looks(ENOUGH - 1)
        idle.liveness.task_begins()
        idle.liveness.task_ends()


def test_a_worker_is_not_deaf_while_others_leave_nothing_lying(broker: redis.Redis) -> None:
    idle = Idle(broker)
    for _ in range(5):
        broker.lpush("bulk:a", "a message")
        assert not idle.looks(ENOUGH - 1)
        broker.rpop("bulk:a")  # another worker
        assert not idle.looks(1)


def test_a_broker_that_is_away_makes_nobody_deaf(broker: redis.Redis) -> None:
    idle = Idle(broker)
    broker.lpush("bulk:a", "a message")
    assert not idle.looks(ENOUGH - 1)
    with redis.Redis(port=1, retry=None) as away:
        idle.liveness._broker = away
        assert not idle.looks(2 * ENOUGH)
    idle.liveness._broker = broker
    assert not idle.looks(ENOUGH - 1), "Celery has time to come back, too"
    assert idle.looks(1)


def test_a_process_whose_interpreter_is_held_for_ever_is_ended_from_outside_it() -> None:
    code = (
        "import ctypes, threading, redis; from workers.liveness import Liveness\n"
        "broker = redis.Redis(port=1)\n"
        "ended = threading.Event()\n"
        "Liveness(broker, (), deaf_seconds=60, frozen_seconds=1, stopping=ended).start()\n"
        "threading.Event().wait(0.9)\n"
        "ctypes.PyDLL(None).sleep(600)\n"  # without giving the interpreter back
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Timeout (0:00:01)!" in done.stderr
