"""Outages that last: nothing that is done is lost, and no job fails for them."""

from pathlib import Path
from typing import Any

import pytest

from domain.errors import InvalidRequest
from domain.lifecycle import JobStatus
from storage import shards
from storage.local_store import LocalStore
from storage.object_store import StoreUnavailable
from storage.shards import ShardLease
from tests.integration.workers.conftest import Workplace
from tests.integration.workers.test_null_runs import null_source
from workers import finish_run, planning_run, shard_run
from workers.slice_writer import SliceWriter


def away(self: Any, key: str, path: Path, **options: Any) -> None:
    raise StoreUnavailable("nobody answers")


def test_a_store_that_is_away_when_a_job_ends_is_waited_for(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = null_workplace.submit(null_source(10))
    planning_run.plan_job(null_workplace.runtime, job.id)
    shard_run.run_shards(null_workplace.runtime)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put_file", away)
        for _ in range(2 * finish_run.MAX_FINISHING_ATTEMPTS):
            finish_run.finish_job(null_workplace.runtime, job.id)
            null_workplace.expire_leases()
    assert null_workplace.again(job).error is None
    finish_run.finish_job(null_workplace.runtime, job.id)
    assert null_workplace.again(job).status is JobStatus.SUCCEEDED


def test_progress_of_a_run_makes_its_shard_s_earlier_attempts_forgotten(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = null_workplace.submit(null_source(200))
    planning_run.plan_job(null_workplace.runtime, job.id)
    most = null_workplace.runtime.settings.max_shard_attempts
    null_workplace.execute(f"UPDATE shards SET attempts = {most - 1}")
    commit, commits = SliceWriter.commit, iter(range(2))

    def fails_at_last(self: SliceWriter, *args: Any) -> None:
        if next(commits, None) is None:
            raise StoreUnavailable("one more 503")
        commit(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(SliceWriter, "commit", fails_at_last)
        shard_run.run_shards(null_workplace.runtime)
    assert null_workplace.again(job).error is None
    null_workplace.execute("UPDATE shards SET available_at = now()")
    assert null_workplace.run(job).status is JobStatus.SUCCEEDED


def claimed(workplace: Workplace) -> ShardLease:
    with workplace.runtime.database.begin() as connection:
        lease = shards.claim_shard(
            connection, owner="w", models=[workplace.model], lease_seconds=60
        )
    assert lease is not None
    return lease


def test_a_runner_whose_lease_is_lost_cannot_fail_the_job(null_workplace: Workplace) -> None:
    job = null_workplace.submit(null_source(10))
    planning_run.plan_job(null_workplace.runtime, job.id)
    stale = claimed(null_workplace)
    null_workplace.expire_leases()
    claimed(null_workplace)
    error = InvalidRequest("output_refused", "for a moment")
    shard_run._doom_job(null_workplace.runtime, stale, error)
    assert null_workplace.again(job).error is None
