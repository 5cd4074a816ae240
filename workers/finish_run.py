"""The end of a job: its manifest, written last, and its last status."""

from datetime import UTC, datetime
from typing import Any

import structlog

from domain.documents import JobPromptDocument
from domain.lifecycle import JobStatus
from domain.prompts import categories
from domain.result_manifest import ResultManifest, ResultPart, ResultTotals
from domain.version import code_version
from storage import jobs, object_keys
from storage.jobs import Job, JobLease
from storage.models import find_model
from storage.object_store import StoreError
from storage.results_store import results_store
from storage.slices import Slice, all_committed_slices, item_categories, keys_of_all_slices
from workers.heartbeat import heartbeat
from workers.runtime import Runtime

log = structlog.get_logger()

MAX_FINISHING_ATTEMPTS = 5


def finish_job(runtime: Runtime, job_id: str) -> None:
    """Finish a job that has nothing left to run; called too early or twice it does nothing."""
    seconds = runtime.settings.lease_seconds
    with runtime.database.begin() as connection:
        lease = jobs.claim_job(
            connection, job_id, finishing=True, owner=runtime.owner, lease_seconds=seconds
        )
        job = jobs.find_job(connection, job_id)
    if lease is None or job is None:
        return
    with heartbeat(lambda: _renew(runtime, lease), lease_seconds=seconds):
        number = _leave_results(runtime, job, lease=lease)
    if number is None:
        return
    _end(runtime, job, lease=lease, manifest_number=number)


def _leave_results(runtime: Runtime, job: Job, *, lease: JobLease) -> int | None:
    """Write the manifest, or remove what must not stay; return the manifest's number.

    None: the store refused. The lease runs out and the sweeper rings again; after some
    attempts the job fails without a new manifest.
    """
    number = 0 if _is_dropped(job) else job.manifest_number + 1
    try:
        if _is_dropped(job):
            _drop_results(runtime, job)
        else:
            _write_manifest(runtime, job, number=number)
    except StoreError as error:
        log.warning("job.results_not_written", job_id=job.id, error=str(error))
        if lease.attempts < MAX_FINISHING_ATTEMPTS:
            return None
        with runtime.database.begin() as connection:
            message = f"the results could not be written: {error}"
            jobs.doom_job(connection, job.id, {"code": "results_not_written", "message": message})
        return job.manifest_number
    return number


def _is_dropped(job: Job) -> bool:
    return bool(job.error and job.error.get("drop"))


def _renew(runtime: Runtime, lease: JobLease) -> bool:
    with runtime.database.begin() as connection:
        jobs.renew_job(
            connection, lease, finishing=True, lease_seconds=runtime.settings.lease_seconds
        )
    return True


def _end(runtime: Runtime, job: Job, *, lease: JobLease, manifest_number: int) -> None:
    with runtime.database.begin() as connection:
        now = jobs.find_job(connection, job.id)
        assert now is not None
        target = _last_status(now)
        ended = jobs.finish_job(connection, lease, to=target, manifest_number=manifest_number)
    log.info("job.ended", job_id=job.id, status=target, mine=ended)


def _last_status(job: Job) -> JobStatus:
    if job.error:
        return JobStatus.FAILED
    return JobStatus.CANCELED if job.cancel_requested_at else JobStatus.SUCCEEDED


def _write_manifest(runtime: Runtime, job: Job, *, number: int) -> None:
    with runtime.database.begin() as connection:
        slices = list(all_committed_slices(connection, job.id))
        item_classes = item_categories(connection, job.id)
        progress = jobs.progress_of(connection, [job.id])[job.id]
        model = find_model(connection, job.model)
    manifest = ResultManifest(
        job_id=job.id,
        number=number,
        created_at=datetime.now(UTC),
        model=job.model,
        weights_sha256=model.weights_sha256 if model else "",
        code_version=code_version(),
        prompts=[JobPromptDocument.model_validate(prompt) for prompt in job.prompts],
        categories=categories(job.parsed_prompts(), item_classes),
        floor=job.floor,
        parts=[_part(one) for one in slices],
        totals=ResultTotals(
            images=progress.total,
            succeeded=progress.succeeded,
            failed=progress.failed,
            instances=progress.instances,
        ),
    )
    results_store(job, settings=runtime.settings).put(
        object_keys.manifest(number),
        manifest.model_dump_json(indent=1).encode("utf-8"),
        content_type="application/json",
    )


def _part(one: Slice) -> ResultPart:
    files: dict[str, Any] = {name: one.parts[name] for name in ("annotations", "images")}
    return ResultPart(**files, first_image_index=one.first_image_index, image_count=one.count)


def _drop_results(runtime: Runtime, job: Job) -> None:
    """Planning failed: nothing half made stays behind."""
    with runtime.database.begin() as connection:
        keys = keys_of_all_slices(connection, job.id)
    results_store(job, settings=runtime.settings).delete(keys)
    lists = runtime.objects.list(object_keys.job_prefix(job.id))
    runtime.objects.delete(info.key for info in lists)
    with runtime.database.begin() as connection:
        jobs.drop_shards(connection, job.id)
