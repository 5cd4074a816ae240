"""Workers whose clocks are hours apart: what counts is the database's."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.integration.workers.crew import Crew, open_crew
from tests.services import REPOSITORY, wait_until
from workers import shard_run

IMAGES = 128  # one shard

HOUR = 3600.0
# Read by Python as it starts.
TWO_HOURS_BEHIND = f"""
import time
seconds, nanoseconds = time.time, time.time_ns
time.time = lambda: seconds() - 2 * {HOUR}
time.time_ns = lambda: nanoseconds() - 2 * {HOUR} * 10**9
"""


@pytest.fixture
def crew(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Crew]:
    with open_crew(database_url, broker_url, tmp_path, models=("null:60ms",)) as crew:
        yield crew


def leases(crew: Crew) -> set[int]:
    """The fencing tokens of the shards that run."""
    with crew.workplace.runtime.database.begin() as connection:
        found = text("SELECT lease_token FROM shards WHERE status = 'running'")
        return set(connection.execute(found).scalars())


def test_a_worker_takes_over_from_one_of_another_time_once_that_is_dead_and_not_before(
    crew: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(TWO_HOURS_BEHIND)
    here = time.time
    monkeypatch.setattr(time, "time", lambda: here() + 2 * HOUR)
    job = crew.plan(crew.workplace.submit({"type": "prefix", "uri": f"null://{IMAGES}"}))
    other = crew.run_shards(PYTHONPATH=f"{tmp_path}:{REPOSITORY}", MASKMILL_LEASE_SECONDS="3")
    wait_until(lambda: leases(crew))
    held = leases(crew)
    shard_run.run_shards(crew.workplace.runtime)
    assert leases(crew) == held, "it has not run out, whatever the clocks say"
    other.kill()

    def all_is_done() -> bool:
        shard_run.run_shards(crew.workplace.runtime)
        return crew.progress(job).succeeded == IMAGES

    wait_until(all_is_done)
