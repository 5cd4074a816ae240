import pytest
from sqlalchemy import text

from domain.lifecycle import JobStatus
from storage import jobs, shards
from storage.jobs import Job
from storage.progress import progress_of
from tests.integration.workers.conftest import Workplace
from workers import finish_run, heartbeat, planning_run, shard_run

COUNT = 120


def pause_after_the_first_slice(workplace: Workplace, job: Job, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(heartbeat, "LISTEN_SECONDS", 0.05)
    commit_slice, commits = shards.commit_slice, list[bool]()

    def commit_and_pause(connection: object, *arguments: object, **values: object) -> None:
        commit_slice(connection, *arguments, **values)  # type: ignore[arg-type]
        if not commits:
            jobs.pause_job(connection, job.id)  # type: ignore[arg-type]
        commits.append(True)

    patch.setattr(shards, "commit_slice", commit_and_pause)


def test_a_running_shard_of_a_paused_job_is_given_back_with_what_is_done(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    null_workplace.model = "null:20ms"
    job = null_workplace.submit({"type": "prefix", "uri": f"null://{COUNT}"})
    planning_run.plan_job(null_workplace.runtime, job.id)
    with monkeypatch.context() as patch:
        pause_after_the_first_slice(null_workplace, job, patch)
        shard_run.run_shards(null_workplace.runtime)
    with null_workplace.runtime.database.begin() as connection:
        kept = progress_of(connection, [job.id])[job.id]
        shard = connection.execute(text("SELECT status, attempts, committed FROM shards")).one()
    assert 0 < kept.succeeded < COUNT
    assert shard == ("pending", 0, kept.succeeded)
    shard_run.run_shards(null_workplace.runtime)
    finish_run.finish_job(null_workplace.runtime, job.id)
    assert null_workplace.again(job).status is JobStatus.RUNNING
    with null_workplace.runtime.database.begin() as connection:
        jobs.resume_job(connection, job.id)
    job = null_workplace.run(job)
    assert job.status is JobStatus.SUCCEEDED
    assert [row.image_index for row in null_workplace.images(job)] == list(range(COUNT))
