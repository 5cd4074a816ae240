import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import IllegalTransition
from domain.lifecycle import (
    EXPORT_TRANSITIONS,
    JOB_TRANSITIONS,
    OPEN_EXPORT,
    OPEN_JOB,
    OPEN_SHARD,
    RETRIABLE_JOB,
    SHARD_TRANSITIONS,
    TERMINAL_EXPORT,
    TERMINAL_JOB,
    ExportStatus,
    JobStatus,
    ShardStatus,
    export_sources,
    job_sources,
    shard_sources,
)


def test_every_status_is_in_its_table() -> None:
    assert set(JOB_TRANSITIONS) == set(JobStatus)
    assert set(SHARD_TRANSITIONS) == set(ShardStatus)
    assert set(EXPORT_TRANSITIONS) == set(ExportStatus)


def test_the_finished_statuses_are_these() -> None:
    assert {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED} == TERMINAL_JOB
    assert {JobStatus.QUEUED, JobStatus.PLANNING, JobStatus.RUNNING} == OPEN_JOB
    assert {ShardStatus.PENDING, ShardStatus.RUNNING} == OPEN_SHARD
    assert {ExportStatus.QUEUED, ExportStatus.RUNNING} == OPEN_EXPORT


def test_an_export_that_has_ended_stays_as_it_is() -> None:
    assert all(EXPORT_TRANSITIONS[status] == frozenset() for status in TERMINAL_EXPORT)
    assert export_sources(ExportStatus.SUCCEEDED) == {ExportStatus.RUNNING}
    assert export_sources(ExportStatus.CANCELED) == OPEN_EXPORT


def test_ended_jobs_and_shards_change_only_to_be_tried_again_and_failed_ones_never() -> None:
    for status in TERMINAL_JOB:
        again = {JobStatus.RUNNING} if status in RETRIABLE_JOB else set()
        assert JOB_TRANSITIONS[status] == again
    for ended in frozenset(ShardStatus) - OPEN_SHARD:
        again_ = set() if ended is ShardStatus.FAILED else {ShardStatus.PENDING}
        assert SHARD_TRANSITIONS[ended] == again_


@given(st.sampled_from(sorted(JobStatus)), st.sampled_from(sorted(JobStatus)))
def test_the_guard_of_a_job_update_is_the_table_read_backwards(
    source: JobStatus, target: JobStatus
) -> None:
    if target is JobStatus.QUEUED:
        return
    assert (source in job_sources(target)) == (target in JOB_TRANSITIONS[source])


@given(st.sampled_from(sorted(ShardStatus)), st.sampled_from(sorted(ShardStatus)))
def test_the_guard_of_a_shard_update_is_the_table_read_backwards(
    source: ShardStatus, target: ShardStatus
) -> None:
    assert (source in shard_sources(target)) == (target in SHARD_TRANSITIONS[source])


@given(st.lists(st.sampled_from(sorted(JobStatus)), max_size=8))
def test_a_failed_job_never_changes_again_whatever_is_tried(tries: list[JobStatus]) -> None:
    status, failed = JobStatus.QUEUED, False
    for target in tries:
        if target in JOB_TRANSITIONS[status]:
            assert not failed
            status = target
        failed = status is JobStatus.FAILED


def test_no_job_ever_becomes_queued_again() -> None:
    with pytest.raises(IllegalTransition):
        job_sources(JobStatus.QUEUED)


def test_every_open_job_can_be_canceled_and_can_fail() -> None:
    assert job_sources(JobStatus.CANCELED) == job_sources(JobStatus.FAILED) == OPEN_JOB


def test_a_job_can_only_succeed_when_all_its_shards_are_known() -> None:
    assert job_sources(JobStatus.SUCCEEDED) == {JobStatus.RUNNING}


def test_a_running_shard_can_be_taken_over_and_given_back() -> None:
    assert shard_sources(ShardStatus.RUNNING) == {ShardStatus.PENDING, ShardStatus.RUNNING}
    assert ShardStatus.RUNNING in shard_sources(ShardStatus.PENDING)
