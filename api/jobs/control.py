"""What the owner of a job may want of it while it runs, and after."""

from collections.abc import Callable, Collection

from sqlalchemy import Connection

from api.context import Context
from api.jobs.schemas import JobDocument
from api.jobs.service import check_room, documents, find
from api.problems import ApiProblem
from domain.errors import ImageErrorCode
from domain.lifecycle import OPEN_JOB, TERMINAL_JOB, JobStatus
from storage import jobs as stored_jobs
from storage.holds import promote_job
from storage.jobs import Job
from storage.keys import ApiKey
from storage.retries import retry_job


def cancel(context: Context, job_id: str, caller: ApiKey) -> JobDocument:
    with context.database.begin() as connection:
        find(connection, job_id, caller)
        stored_jobs.request_cancel(connection, job_id)
        job = find(connection, job_id, caller)
        if job.cancel_requested_at is None or job.status in TERMINAL_JOB - {JobStatus.CANCELED}:
            raise _ended(job)
        return documents(connection, [job])[0]


def pause(context: Context, job_id: str, caller: ApiKey) -> JobDocument:
    return _wish(context, job_id, caller, stored_jobs.pause_job)


def resume(context: Context, job_id: str, caller: ApiKey) -> JobDocument:
    return _wish(context, job_id, caller, stored_jobs.resume_job)


def promote(context: Context, job_id: str, caller: ApiKey) -> JobDocument:
    return _wish(context, job_id, caller, promote_job)


def set_priority(context: Context, job_id: str, caller: ApiKey, *, priority: int) -> JobDocument:
    def wish(connection: Connection, job_id: str) -> None:
        stored_jobs.set_priority(connection, job_id, priority)

    return _wish(context, job_id, caller, wish)


def _wish(
    context: Context, job_id: str, caller: ApiKey, wish: Callable[[Connection, str], None]
) -> JobDocument:
    with context.database.begin() as connection:
        find(connection, job_id, caller)
        wish(connection, job_id)
        job = find(connection, job_id, caller)
        if job.status in TERMINAL_JOB:
            raise _ended(job)
        return documents(connection, [job])[0]


def _ended(job: Job) -> ApiProblem:
    return ApiProblem(409, "job_already_ended", f"The job has {_ENDINGS[job.status]} already.")


_ENDINGS = {
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELED: "been canceled",
}


def retry(
    context: Context, job_id: str, caller: ApiKey, *, codes: Collection[ImageErrorCode]
) -> JobDocument:
    with context.database.begin() as connection:
        find(connection, job_id, caller)
        reopened = retry_job(connection, job_id, codes=codes)
        job = find(connection, job_id, caller)
        if reopened is None:
            raise _not_retriable(job)
        if reopened == 0:
            raise ApiProblem(409, "nothing_to_retry", "No image has failed in such a way.")
        check_room(context, connection, caller)
        return documents(connection, [job])[0]


def _not_retriable(job: Job) -> ApiProblem:
    if job.status in OPEN_JOB:
        detail = "Failed images are tried again once the job has ended."
        return ApiProblem(409, "job_not_ended", detail)
    if job.status is JobStatus.FAILED:
        detail = "The job as a whole could not be done; mend what `error` says and send it again."
        return ApiProblem(409, "job_failed", detail)
    detail = "The lists of the job's images were removed, by this service's retention policy."
    return ApiProblem(409, "job_cleaned", detail)
