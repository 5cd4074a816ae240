"""One fault at a time, in the middle of a shard or of its clearing up."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from domain.errors import ImageErrorCode
from domain.lifecycle import JobStatus
from storage import shards, slices
from storage.jobs import Job
from storage.results_store import results_store
from tests.integration.workers.conftest import Workplace, open_workplace
from tests.integration.workers.crew import Crew, open_crew
from tests.services import driver_url, wait_until
from workers import finish_run, planning_run, shard_run
from workers.sweeper import Sweeper
from workers.tidying import REST_LEASES, Tidying, tidy_parts


class Killed(BaseException):
    """As SIGKILL would: nothing in the code catches it."""


@pytest.fixture
def crew(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Crew]:
    with open_crew(database_url, broker_url, tmp_path, models=("null", "null:50ms")) as crew:
        yield crew


def null_job(workplace: Workplace, *, images: int) -> Job:
    job = workplace.submit({"type": "prefix", "uri": f"null://{images}"})
    planning_run.plan_job(workplace.runtime, job.id)
    return job


def cut_connections(workplace: Workplace) -> None:
    url = workplace.runtime.settings.database_url.get_secret_value()
    with psycopg.connect(driver_url(url), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def require_each_once(workplace: Workplace, job: Job, count: int) -> None:
    finish_run.finish_job(workplace.runtime, job.id)
    assert workplace.again(job).status is JobStatus.SUCCEEDED
    assert [row.image_index for row in workplace.images(job)] == list(range(count))


def part_keys(workplace: Workplace, job: Job) -> set[str]:
    store = results_store(job, settings=workplace.runtime.settings)
    return {info.key for info in store.list("parts/")}


def committed_keys(workplace: Workplace, job: Job) -> set[str]:
    with workplace.runtime.database.begin() as connection:
        found = list(slices.all_committed_slices(connection, job.id))
    return {key for one in found for key in (one.annotations_key, one.images_key)}


def sweep(workplace: Workplace) -> None:
    Sweeper(workplace.runtime.settings, workplace.runtime.database).sweep(ring_for_jobs=False)


def test_a_shard_outlives_the_cutting_of_all_its_connections(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a transaction, and between two."""
    job = null_job(null_workplace, images=256)
    commit_slice, commits = shards.commit_slice, list[int]()

    def cut_within(*arguments: Any, **values: Any) -> None:
        commit_slice(*arguments, **values)
        commits.append(1)
        if len(commits) == 2:
            cut_connections(null_workplace)

    monkeypatch.setattr(shards, "commit_slice", cut_within)
    shard_run.run_shards(null_workplace.runtime)
    cut_connections(null_workplace)
    null_workplace.execute("UPDATE shards SET available_at = now()")
    shard_run.run_shards(null_workplace.runtime)
    require_each_once(null_workplace, job, 256)
    assert len(commits) > 3


def test_one_image_of_256_that_kills_its_worker_fails_alone(crew: Crew) -> None:
    """Real processes and the kernel's own signal, with 64, 8, 1, 1 and 1 images in flight."""
    folder = crew.workplace.folder / "images"
    folder.mkdir()
    for number in range(256):
        (folder / f"{number:03d}{'-kill-worker' * (number == 200)}.jpg").touch()
    job = crew.plan(crew.workplace.submit_folder(folder))
    deaths = 0
    while crew.run_shards().wait(60) == -signal.SIGKILL:
        deaths += 1
        crew.workplace.expire_leases()
    require_each_once(crew.workplace, job, 256)
    failed = {row.image: row.error_code for row in crew.workplace.images(job) if row.error_code}
    assert failed == {"200-kill-worker.jpg": ImageErrorCode.OUT_OF_MEMORY}
    assert 3 <= deaths <= 5


def test_a_worker_that_is_paused_beyond_its_lease_changes_nothing_when_it_goes_on(
    crew: Crew,
) -> None:
    workplace = crew.workplace
    workplace.model = "null:50ms"
    job = null_job(workplace, images=40)
    paused = crew.run_shards()
    wait_until(lambda: crew.progress(job).succeeded > 0, seconds=60)
    paused.send_signal(signal.SIGSTOP)
    workplace.expire_leases()
    shard_run.run_shards(workplace.runtime)
    require_each_once(workplace, job, 40)
    before = workplace.images(job)
    paused.send_signal(signal.SIGCONT)
    assert paused.wait(60) == 0
    assert "shard.lease_lost" in crew.log
    assert workplace.images(job) == before
    sweep(workplace)
    assert part_keys(workplace, job) == committed_keys(workplace, job)


def test_a_planner_that_hangs_is_ended_and_the_next_one_goes_on_at_once(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the process is the only part that is not real."""
    ended = threading.Event()

    def hang(*_: Any) -> None:
        assert ended.wait(30)
        raise Killed

    with contextmanager(open_workplace)(
        database_url, tmp_path, allowed_sources=["null://"], models=["null"], stall_seconds=0.3
    ) as workplace:
        job = workplace.submit({"type": "prefix", "uri": "null://600"})
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(os, "_exit", lambda _: ended.set())
            patch.setattr(planning_run.LinkCheck, "look", hang)
            planning_run.plan_job(workplace.runtime, job.id)
        planning_run.plan_job(workplace.runtime, job.id)
        shard_run.run_shards(workplace.runtime)
        require_each_once(workplace, job, 600)
        with workplace.runtime.database.begin() as connection:
            kinds = connection.execute(text("SELECT kind FROM events")).scalars().all()
    assert kinds.count("job.stalled") == 1


def test_a_sweeper_that_dies_after_deleting_parts_is_followed_by_another(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = null_job(null_workplace, images=40)
    lose_a_slice(null_workplace, monkeypatch)
    require_each_once(null_workplace, job, 40)

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(slices, "forget_slices", die)
        sweep(null_workplace)
    sweep(null_workplace)
    with null_workplace.runtime.database.begin() as connection:
        assert slices.loose_slices(connection) == []
    assert part_keys(null_workplace, job) == committed_keys(null_workplace, job)


def lose_a_slice(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that dies with the second slice's parts written; another does all."""
    commit_slice, commits = shards.commit_slice, list[int]()

    def die_at_the_second(*arguments: Any, **values: Any) -> None:
        commits.append(1)
        if len(commits) == 2:
            raise Killed
        commit_slice(*arguments, **values)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shards, "commit_slice", die_at_the_second)
        shard_run.run_shards(workplace.runtime)
    workplace.expire_leases()
    shard_run.run_shards(workplace.runtime)


def test_parts_that_nobody_owns_are_deleted_and_nothing_else(null_workplace: Workplace) -> None:
    job = null_job(null_workplace, images=300)
    shard_run.run_shards(null_workplace.runtime)
    require_each_once(null_workplace, job, 300)
    store = results_store(job, settings=null_workplace.runtime.settings)
    orphans = {
        "parts/00000000-0000-t999999.annotations.parquet",
        "parts/00000001-0008-t999999.images.parquet",
        "parts/00000099-0000-t3.images.parquet",  # of no shard of this job
    }
    others = {"parts/notes.txt", "parts/mine/00000000-0000-t1.images.parquet", "own.parquet"}
    for key in orphans | others:
        store.put(key, b"")
    owned = committed_keys(null_workplace, job)
    runtime = null_workplace.runtime
    assert tidy_parts(job, settings=runtime.settings, database=runtime.database) == 3
    assert part_keys(null_workplace, job) == owned | others - {"own.parquet"}
    assert store.exists("own.parquet")


ORPHAN = "parts/00000000-0000-t999999.images.parquet"


@pytest.fixture
def two_jobs(database_url: str, tmp_path: Path) -> Iterator[tuple[Workplace, Job, Job]]:
    """Ended, with a part each that nobody owns. The first one's bucket does not answer."""
    settings = {"allowed_sources": ["null://"], "models": ["null"]}
    nowhere = {"s3_endpoint_url": "http://127.0.0.1:1"}
    for workplace in open_workplace(database_url, tmp_path, **settings, **nowhere):
        ended = [null_job(workplace, images=5) for _ in range(2)]
        shard_run.run_shards(workplace.runtime)
        for minutes_ago, job in zip((50, 40), ended, strict=True):
            require_each_once(workplace, job, 5)
            results_store(job, settings=workplace.runtime.settings).put(ORPHAN, b"")
            workplace.execute(
                f"UPDATE jobs SET finished_at = now() - interval '{minutes_ago} minutes'"
                f" WHERE id = '{job.id}'"
            )
        move_output(workplace, ended[0], to="'s3://away/masks'")
        yield workplace, ended[0], ended[1]


def move_output(workplace: Workplace, job: Job, *, to: str) -> None:
    workplace.execute(f"UPDATE jobs SET output = {to} WHERE id = '{job.id}'")


def test_a_store_that_is_away_keeps_no_other_from_tidying_and_is_tidied_when_it_is_back(
    two_jobs: tuple[Workplace, Job, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace, away, here = two_jobs
    store = results_store(away, settings=workplace.runtime.settings)
    assert store.exists(ORPHAN)
    tidying = Tidying(workplace.runtime.settings, workplace.runtime.database)
    monkeypatch.setattr("workers.tidying._AWAY_SECONDS", 0.0)
    tidying.tidy_some()
    assert ORPHAN not in part_keys(workplace, here)
    assert store.exists(ORPHAN)
    move_output(workplace, away, to="NULL")
    tidying.tidy_some()
    assert not store.exists(ORPHAN)


def test_a_store_that_is_away_does_not_keep_the_loose_parts_of_others(
    two_jobs: tuple[Workplace, Job, Job],
) -> None:
    workplace, away, here = two_jobs
    for job, count in ((away, 500), (here, 1)):  # as many as are looked at at once
        workplace.execute(f"""
            INSERT INTO slices (job_id, shard_number, start, token, count, status,
                                annotations_key, images_key, first_image_index)
            SELECT '{job.id}', 0, 0, 1000000 + n, 1, 'lost', '{ORPHAN}', '{ORPHAN}', 0
              FROM generate_series(1, {count}) n
        """)
    sweeper = Sweeper(workplace.runtime.settings, workplace.runtime.database)
    sweeper.sweep(ring_for_jobs=False)
    sweeper.sweep(ring_for_jobs=False)
    assert ORPHAN not in part_keys(workplace, here)
    move_output(workplace, away, to="NULL")
    sweep(workplace)
    with workplace.runtime.database.begin() as connection:
        assert slices.loose_slices(connection) == []


def test_jobs_are_tidied_some_time_after_their_end_and_once(null_workplace: Workplace) -> None:
    runtime = null_workplace.runtime
    ended = [null_job(null_workplace, images=5) for _ in range(3)]
    shard_run.run_shards(runtime)
    for job in ended:
        require_each_once(null_workplace, job, 5)
        orphan = "parts/00000000-0000-t999999.images.parquet"
        results_store(job, settings=runtime.settings).put(orphan, b"")
    rest_seconds = REST_LEASES * runtime.settings.lease_seconds
    for job, seconds in zip(ended, (rest_seconds - 10, rest_seconds + 10, 2 * 86400), strict=True):
        null_workplace.execute(
            f"UPDATE jobs SET finished_at = now() - interval '{seconds} s' WHERE id = '{job.id}'"
        )
    tidying = Tidying(runtime.settings, runtime.database)
    tidying.tidy_some()
    assert [len(part_keys(null_workplace, job)) for job in ended] == [3, 2, 3]
    results_store(ended[1], settings=runtime.settings).put(orphan, b"")
    tidying.tidy_some()
    assert len(part_keys(null_workplace, ended[1])) == 3, "once"
    Tidying(runtime.settings, runtime.database).tidy_some()
    assert len(part_keys(null_workplace, ended[1])) == 2, "and by the next process"
