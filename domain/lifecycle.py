"""The one table of status changes. Wishes (cancel, pause) are flags on the row, not statuses."""

from enum import StrEnum

from domain.errors import IllegalTransition


class JobStatus(StrEnum):
    QUEUED = "queued"
    PLANNING = "planning"  # shards appear, and run already
    RUNNING = "running"  # all shards are known
    SUCCEEDED = "succeeded"  # every image has an outcome; some may have failed
    FAILED = "failed"  # the job as a whole could not be done
    CANCELED = "canceled"


class Wish(StrEnum):
    """What the owner of a job wants of its shards; an error of the job's is no wish, but also
    makes it unwanted."""

    WANTED = "wanted"
    PAUSED = "paused"
    UNWANTED = "unwanted"


class ShardStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class ResultUse(StrEnum):
    """What is made of a job's result, by one queue and under one kind of lease."""

    EXPORT = "export"
    EVALUATION = "evaluation"
    PREVIEW = "preview"  # of a job on hold, once its sample is labelled


class ExportStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


JOB_TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.PLANNING, JobStatus.FAILED, JobStatus.CANCELED}),
    JobStatus.PLANNING: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELED}),
    JobStatus.RUNNING: frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED}),
    # ended to running: failed images are tried again
    JobStatus.SUCCEEDED: frozenset({JobStatus.RUNNING}),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELED: frozenset({JobStatus.RUNNING}),
}

SHARD_TRANSITIONS: dict[ShardStatus, frozenset[ShardStatus]] = {
    ShardStatus.PENDING: frozenset({ShardStatus.RUNNING, ShardStatus.CANCELED}),
    # running to running: the lease ran out and another worker took the shard over
    ShardStatus.RUNNING: frozenset(ShardStatus),
    # ended to pending: failed images are tried again
    ShardStatus.SUCCEEDED: frozenset({ShardStatus.PENDING}),
    ShardStatus.FAILED: frozenset(),
    ShardStatus.CANCELED: frozenset({ShardStatus.PENDING}),
}

EXPORT_TRANSITIONS: dict[ExportStatus, frozenset[ExportStatus]] = {
    ExportStatus.QUEUED: frozenset({ExportStatus.RUNNING, ExportStatus.CANCELED}),
    # running to running: the lease ran out and another worker began anew; to queued: given back
    ExportStatus.RUNNING: frozenset(ExportStatus),
    ExportStatus.SUCCEEDED: frozenset(),
    ExportStatus.FAILED: frozenset(),
    ExportStatus.CANCELED: frozenset(),
}

OPEN_JOB = frozenset({JobStatus.QUEUED, JobStatus.PLANNING, JobStatus.RUNNING})
TERMINAL_JOB = frozenset(JobStatus) - OPEN_JOB
RETRIABLE_JOB = TERMINAL_JOB - {JobStatus.FAILED}
OPEN_SHARD = frozenset({ShardStatus.PENDING, ShardStatus.RUNNING})
OPEN_EXPORT = frozenset({ExportStatus.QUEUED, ExportStatus.RUNNING})
TERMINAL_EXPORT = frozenset(ExportStatus) - OPEN_EXPORT


def job_sources(target: JobStatus) -> frozenset[JobStatus]:
    """The statuses from which `target` may be entered: the guard of the UPDATE."""
    sources = frozenset(s for s, targets in JOB_TRANSITIONS.items() if target in targets)
    if not sources:
        raise IllegalTransition(f"no job ever becomes {target}")
    return sources


def shard_sources(target: ShardStatus) -> frozenset[ShardStatus]:
    return frozenset(s for s, targets in SHARD_TRANSITIONS.items() if target in targets)


def export_sources(target: ExportStatus) -> frozenset[ExportStatus]:
    return frozenset(s for s, targets in EXPORT_TRANSITIONS.items() if target in targets)
