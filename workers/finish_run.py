"""The end of a job: its manifest, written last, and its last status."""

import tempfile
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from domain.documents import JobPromptDocument
from domain.errors import LeaseLost
from domain.lifecycle import JobStatus
from domain.prompts import categories
from domain.result_manifest import ResultManifest, ResultPart, ResultTotals, manifest_pieces
from domain.version import code_version
from storage import jobs, object_keys
from storage.database import database_time
from storage.jobs import Job, JobLease
from storage.models import find_model
from storage.object_store import StoreError, StoreUnavailable
from storage.progress import keep_totals, progress_of
from storage.results_store import results_store
from storage.slices import Slice, all_committed_slices, item_categories, keys_of_all_slices
from storage.tracing import span
from workers.heartbeat import Heartbeat
from workers.job_heartbeat import job_heartbeat
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
    with span("finish job", parent=job.traceparent, kind="consumer", job_id=job_id):
        try:
            with job_heartbeat(runtime, lease, finishing=True) as beat:
                beat.expect_progress()
                number = _leave_results(runtime, job, lease=lease, beat=beat)
        except LeaseLost:
            log.warning("job.lease_lost", job_id=job_id)
            return
        if number is not None:
            _end(runtime, job, lease=lease, manifest_number=number)


def _leave_results(runtime: Runtime, job: Job, *, lease: JobLease, beat: Heartbeat) -> int | None:
    """Write the manifest, or remove what must not stay; return the manifest's number.

    None: the store is away, or refused. The lease runs out and the sweeper rings again; after
    some attempts a job whose store refuses fails without a new manifest.
    """
    number = 0 if _is_dropped(job) else job.manifest_number + 1
    try:
        if _is_dropped(job):
            _drop_results(runtime, job, beat=beat)
        else:
            _write_manifest(runtime, job, number=number, beat=beat)
    except StoreError as error:
        log.warning("job.results_not_written", job_id=job.id, error=str(error))
        if isinstance(error, StoreUnavailable) or lease.attempts < MAX_FINISHING_ATTEMPTS:
            return None
        with runtime.database.begin() as connection:
            jobs.require_held(connection, lease)
            message = f"the results could not be written: {error}"
            jobs.doom_job(connection, job.id, {"code": "results_not_written", "message": message})
        return job.manifest_number
    return number


def _is_dropped(job: Job) -> bool:
    return bool(job.error and job.error.get("drop"))


def _end(runtime: Runtime, job: Job, *, lease: JobLease, manifest_number: int) -> None:
    with runtime.database.begin() as connection:
        now = jobs.find_job(connection, job.id)
        assert now is not None
        is_whole = now.running_at and not jobs.has_images_never_run(connection, job.id)
        target = _last_status(now, is_whole=bool(is_whole))
        ended = jobs.finish_job(connection, lease, to=target, manifest_number=manifest_number)
        if ended:
            keep_totals(connection, job.id)
    log.info("job.ended", job_id=job.id, status=target, mine=ended)
    if ended:
        runtime.metrics.job_ended(target)


def _last_status(job: Job, *, is_whole: bool) -> JobStatus:
    """A canceled job whose failures were tried again is still not whole."""
    if job.error:
        return JobStatus.FAILED
    return JobStatus.CANCELED if job.cancel_requested_at or not is_whole else JobStatus.SUCCEEDED


def _write_manifest(runtime: Runtime, job: Job, *, number: int, beat: Heartbeat) -> None:
    """By way of a file: a million images have 16,000 parts."""
    with tempfile.TemporaryDirectory(prefix="maskmill-") as folder:
        path = Path(folder, "manifest.json")
        with runtime.database.begin() as connection, path.open("wb") as file:
            frame = manifest_without_parts(connection, job, number=number)
            parts = map(part_of, beat.noting(all_committed_slices(connection, job.id)))
            file.writelines(manifest_pieces(frame, parts))
        results_store(job, settings=runtime.settings).put_file(
            object_keys.manifest(number), path, content_type="application/json"
        )


def manifest_without_parts(connection: Connection, job: Job, *, number: int) -> ResultManifest:
    """Of what is committed now."""
    item_classes = item_categories(connection, job.id)
    progress = progress_of(connection, [job.id])[job.id]
    model = find_model(connection, job.model)
    return ResultManifest(
        job_id=job.id,
        number=number,
        created_at=database_time(connection),
        model=job.model,
        weights_sha256=model.weights_sha256 if model else "",
        code_version=code_version(),
        prompts=[JobPromptDocument.model_validate(prompt) for prompt in job.prompts],
        categories=categories(job.parsed_prompts(), item_classes),
        floor=job.floor,
        parts=[],
        totals=ResultTotals(
            images=progress.total,
            succeeded=progress.succeeded,
            failed=progress.failed,
            instances=progress.instances,
        ),
    )


def part_of(one: Slice) -> ResultPart:
    files: dict[str, Any] = {name: one.parts[name] for name in ("annotations", "images")}
    return ResultPart(**files, first_image_index=one.first_image_index, image_count=one.count)


def _drop_results(runtime: Runtime, job: Job, *, beat: Heartbeat) -> None:
    """Planning failed: nothing half made stays behind."""
    with runtime.database.begin() as connection:
        keys = keys_of_all_slices(connection, job.id)
    results_store(job, settings=runtime.settings).delete(beat.noting(keys))
    lists = runtime.objects.list(object_keys.job_prefix(job.id))
    runtime.objects.delete(beat.noting(info.key for info in lists))
    with runtime.database.begin() as connection:
        jobs.drop_shards(connection, job.id)
