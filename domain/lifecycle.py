"""The one table of status changes. Wishes (cancel) are flags on the row, not statuses."""

from enum import StrEnum

from domain.errors import IllegalTransition


class JobStatus(StrEnum):
    QUEUED = "queued"
    PLANNING = "planning"  # shards appear, and run already
    RUNNING = "running"  # all shards are known
    SUCCEEDED = "succeeded"  # every image has an outcome; some may have failed
    FAILED = "failed"  # the job as a whole could not be done
    CANCELED = "canceled"


class ShardStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


JOB_TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.PLANNING, JobStatus.FAILED, JobStatus.CANCELED}),
    JobStatus.PLANNING: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELED}),
    JobStatus.RUNNING: frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELED: frozenset(),
}

SHARD_TRANSITIONS: dict[ShardStatus, frozenset[ShardStatus]] = {
    ShardStatus.PENDING: frozenset({ShardStatus.RUNNING, ShardStatus.CANCELED}),
    # running to running: the lease ran out and another worker took the shard over
    ShardStatus.RUNNING: frozenset(ShardStatus),
    ShardStatus.SUCCEEDED: frozenset(),
    ShardStatus.FAILED: frozenset(),
    ShardStatus.CANCELED: frozenset(),
}

TERMINAL_JOB = frozenset(s for s, targets in JOB_TRANSITIONS.items() if not targets)
OPEN_JOB = frozenset(JobStatus) - TERMINAL_JOB
OPEN_SHARD = frozenset({ShardStatus.PENDING, ShardStatus.RUNNING})


def job_sources(target: JobStatus) -> frozenset[JobStatus]:
    """The statuses from which `target` may be entered: the guard of the UPDATE."""
    sources = frozenset(s for s, targets in JOB_TRANSITIONS.items() if target in targets)
    if not sources:
        raise IllegalTransition(f"no job ever becomes {target}")
    return sources


def shard_sources(target: ShardStatus) -> frozenset[ShardStatus]:
    return frozenset(s for s, targets in SHARD_TRANSITIONS.items() if target in targets)
