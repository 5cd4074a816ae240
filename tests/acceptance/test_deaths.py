"""Whatever dies, the job ends with every image done once."""

import signal
from pathlib import Path

import pytest
import redis

from maskmill.answers import Job
from tests.acceptance.conftest import SCENES, Service, exactly_once, started
from tests.services import wait_until

PROMPTS = ("red circle", "square")

pytestmark = pytest.mark.xdist_group("service")  # they share a stack


def some_are_done(job: Job) -> bool:
    return 8 <= job.counts.succeeded < job.counts.total


def require_all_done(service: Service, job: Job) -> None:
    done = service.finish(job)
    assert (done.status, done.counts.succeeded, done.counts.failed) == ("succeeded", SCENES, 0)
    exactly_once(service.images(job), SCENES)


def test_a_worker_that_is_killed_in_a_shard_loses_nothing(service: Service, scenes: Path) -> None:
    job = service.submit_folder(scenes, *PROMPTS)
    service.wait_for(job, some_are_done)
    service.kill("bulk", signal.SIGKILL)
    require_all_done(service, job)


def test_a_worker_that_is_asked_to_stop_gives_its_shard_back(
    service: Service, scenes: Path
) -> None:
    job = service.submit_folder(scenes, *PROMPTS)
    service.wait_for(job, some_are_done)
    service.kill("bulk", signal.SIGTERM)
    require_all_done(service, job)
    kinds = [event.kind for event in service.client.events(job.id) if event.shard_number == 0]
    assert "shard.pending" in kinds


def test_a_broker_that_is_emptied_delays_the_job_and_no_more(
    service: Service, scenes: Path
) -> None:
    job = service.submit_folder(scenes, *PROMPTS)
    with redis.Redis.from_url(service.stack.environment["MASKMILL_BROKER_URL"]) as broker:
        broker.flushall()
        service.wait_for(job, some_are_done)
        broker.flushall()
    service.kill("bulk", signal.SIGKILL)
    require_all_done(service, job)


@pytest.mark.parametrize("name", ["valkey", "dispatcher", "planner", "postgres"])
def test_any_other_part_may_die_while_a_job_runs(service: Service, scenes: Path, name: str) -> None:
    job = service.submit_folder(scenes, *PROMPTS)
    service.wait_for(job, some_are_done)
    service.kill(name, signal.SIGKILL)
    require_all_done(service, job)


def test_a_job_whose_doorbell_was_never_rung_still_runs(service: Service, scenes: Path) -> None:
    """The API dies between commit and publish: nothing publishes, then the API is killed."""
    service.kill("dispatcher", signal.SIGSTOP)
    job = service.submit_folder(scenes, *PROMPTS)
    dispatcher = service.stack.process_ids()["dispatcher"]
    service.kill("api", signal.SIGKILL)
    service.kill("dispatcher", signal.SIGKILL)
    wait_until(lambda: service.stack.process_ids().get("dispatcher") not in (None, dispatcher))
    require_all_done(service, job)


def test_a_stack_that_was_stopped_goes_on_when_started_again(
    open_folder: Path, scenes: Path
) -> None:
    with started(open_folder / "data") as first:
        job = first.submit_folder(scenes, *PROMPTS)
        first.wait_for(job, some_are_done)
    with started(open_folder / "data") as second:
        require_all_done(second, job)
