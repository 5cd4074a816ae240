"""Doorbells: a queue per model, none lost, and no more of them than somebody has to hear."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import SecretStr
from sqlalchemy import text

from storage import outbox
from storage.database import Database
from storage.outbox import Tasks
from tests.integration.workers.conftest import Workplace
from tests.integration.workers.crew import open_crew
from workers import planning_run, shard_run
from workers.doctor import workers_for_jobs
from workers.publisher import publish
from workers.sweeper import Sweeper


class Killed(BaseException):
    """As SIGKILL would: nothing in the code catches it."""


def celery(broker_url: str) -> Celery:
    app = Celery("bells", broker=broker_url, set_as_current=False)
    app.conf.update(task_serializer="json", task_default_queue="planning")
    return app


@pytest.fixture
def bells(broker_url: str) -> Iterator[Celery]:
    with closing(celery(broker_url)) as app:
        yield app


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def database(null_workplace: Workplace) -> Database:
    return null_workplace.runtime.database


def ring(database: Database, task: str, **arguments: Any) -> None:
    with database.begin() as connection:
        outbox.ring(connection, task, **arguments)


def planned(workplace: Workplace, model: str, *, images: int = 10) -> str:
    workplace.model = model
    job = workplace.submit({"type": "prefix", "uri": f"null://{images}"})
    planning_run.plan_job(workplace.runtime, job.id)
    return job.id


def shard_statuses(workplace: Workplace, job_id: str) -> set[str]:
    with workplace.runtime.database.begin() as connection:
        query = text("SELECT status FROM shards WHERE job_id = :id")
        return set(connection.execute(query, {"id": job_id}).scalars())


def sweep(workplace: Workplace) -> None:
    Sweeper(workplace.runtime.settings, workplace.runtime.database).sweep(ring_for_jobs=False)


def test_each_model_has_a_queue_and_one_message_wakes_its_worker(
    database: Database, bells: Celery, broker: redis.Redis
) -> None:
    for model in ("null", "facebook/sam3", "null", "null"):
        ring(database, Tasks.RUN_SHARDS, model=model)
    assert publish(database, bells) == 4
    ring(database, Tasks.RUN_SHARDS, model="null")
    publish(database, bells)
    assert (broker.llen("bulk:null"), broker.llen("bulk:facebook/sam3")) == (1, 1)


def test_a_message_of_one_model_leaves_the_shards_of_others_alone(
    null_workplace: Workplace,
) -> None:
    slow = planned(null_workplace, "null:20ms")
    quick = planned(null_workplace, "null")
    shard_run.run_shards(null_workplace.runtime, ["null"])
    assert shard_statuses(null_workplace, quick) == {"succeeded"}
    assert shard_statuses(null_workplace, slow) == {"pending"}


def test_jobs_of_a_model_that_nobody_serves_harm_no_others(
    null_workplace: Workplace, bells: Celery, broker: redis.Redis
) -> None:
    planned(null_workplace, "of-nobody")
    planned(null_workplace, "null")
    for _ in range(3):
        sweep(null_workplace)
        publish(null_workplace.runtime.database, bells)
    assert (broker.llen("bulk:of-nobody"), broker.llen("bulk:null")) == (1, 1)


def test_bells_that_an_emptied_broker_lost_are_rung_again(
    null_workplace: Workplace, bells: Celery, broker: redis.Redis
) -> None:
    planned(null_workplace, "null")
    publish(null_workplace.runtime.database, bells)
    broker.flushall()
    sweep(null_workplace)
    publish(null_workplace.runtime.database, bells)
    assert broker.llen("bulk:null") == 1


def test_the_doctor_names_models_with_work_that_no_worker_hears(
    database_url: str, broker_url: str, tmp_path: Path
) -> None:
    with open_crew(database_url, broker_url, tmp_path) as crew:
        crew.start("bulk")
        planned(crew.workplace, "of-nobody")
        crew.publish()
        settings = crew.workplace.runtime.settings
        found = {check.check: check for check in workers_for_jobs(settings)}
    assert {name: check.ok for name, check in found.items()} == {
        "workers": True,
        "planner": False,
        "bulk null": True,
        "bulk of-nobody": False,
    }
    assert found["workers"].detail.startswith("bulk ")
    assert found["bulk null"].detail == "1 worker(s); 0 shard(s) and 0 message(s) wait"
    assert found["bulk of-nobody"].detail == "0 worker(s); 1 shard(s) and 1 message(s) wait"
    away = settings.model_copy(update={"broker_url": SecretStr("redis://127.0.0.1:1/0")})
    assert [check.ok for check in workers_for_jobs(away)] == [True]


def test_bells_wait_for_a_broker_that_is_away(database: Database, bells: Celery) -> None:
    ring(database, Tasks.PLAN_JOB, job_id="job_1")
    with closing(celery("redis://127.0.0.1:1/0")) as away, pytest.raises(OperationalError):
        publish(database, away)
    assert publish(database, bells) == 1


def test_a_publisher_that_dies_after_sending_rings_twice_and_the_job_is_planned_once(
    null_workplace: Workplace, bells: Celery, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = null_workplace.runtime.database
    job = null_workplace.submit({"type": "prefix", "uri": "null://600"})
    send_task = bells.send_task

    def die_afterwards(*arguments: Any, **options: Any) -> None:
        send_task(*arguments, **options)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(bells, "send_task", die_afterwards)
        publish(database, bells)
    publish(database, bells)
    assert broker.llen("planning") == 2
    planning_run.plan_job(null_workplace.runtime, job.id)
    planning_run.plan_job(null_workplace.runtime, job.id)
    with database.begin() as connection:
        count = connection.execute(text("SELECT sum(image_count) FROM shards")).scalar_one()
    assert count == 600


def test_two_dispatchers_ring_each_bell_once(
    null_workplace: Workplace, broker_url: str, broker: redis.Redis
) -> None:
    database = null_workplace.runtime.database
    for number in range(300):
        ring(database, Tasks.PLAN_JOB, job_id=f"job_{number}")

    def dispatch(_: int) -> None:
        with closing(celery(broker_url)) as app:
            while publish(database, app):
                sweep(null_workplace)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(dispatch, range(2)))
    assert broker.llen("planning") == 300


def test_a_bell_of_an_older_version_is_dropped(database: Database, bells: Celery) -> None:
    ring(database, Tasks.RUN_SHARDS)
    ring(database, Tasks.PLAN_JOB, job_id="job_1")
    assert publish(database, bells) == 2
    assert publish(database, bells) == 0
