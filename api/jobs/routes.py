"""/v1/jobs"""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.documents import IdempotencyKey, JobId, Page
from api.jobs import control, service
from api.jobs.schemas import JobChange, JobDocument, JobPage, JobRequest, RetryRequest
from api.problems import declared
from domain.lifecycle import JobStatus

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=KeyFirst)


@router.post(
    "",
    status_code=202,
    responses={
        202: {
            "headers": {
                "Location": {"schema": {"type": "string"}},
                "Idempotency-Replayed": {"schema": {"type": "string", "enum": ["true"]}},
            }
        },
        **declared(400, 403, 409, 413),
    },
)
def create_job(
    request: JobRequest,
    response: Response,
    context: RequestContext,
    caller: Caller,
    idempotency_key: IdempotencyKey = None,
) -> JobDocument:
    """Label a dataset. The job runs by itself; watch it under `Location`."""
    job, is_new = service.create(context, caller, request, idempotency_key=idempotency_key)
    response.headers["Location"] = job.links.self
    if not is_new:
        response.headers["Idempotency-Replayed"] = "true"
    return job


@router.get("")
def list_jobs(
    context: RequestContext,
    caller: Caller,
    page: Page,
    status: Annotated[JobStatus | None, Query()] = None,
) -> JobPage:
    """Your jobs, newest first."""
    return service.list_page(context, caller, page, status=status)


@router.get("/{job_id}", responses=declared(404))
def get_job(job_id: JobId, context: RequestContext, caller: Caller) -> JobDocument:
    return service.get(context, job_id, caller)


@router.post("/{job_id}/cancel", responses=declared(404, 409))
def cancel_job(job_id: JobId, context: RequestContext, caller: Caller) -> JobDocument:
    """End the job soon; what is labelled stays. Canceling twice changes nothing."""
    return control.cancel(context, job_id, caller)


@router.post("/{job_id}/pause", responses=declared(404, 409))
def pause_job(job_id: JobId, context: RequestContext, caller: Caller) -> JobDocument:
    """Begin nothing more until it is resumed; running shards stop soon and keep what is labelled.

    Planning goes on. Pausing twice changes nothing.
    """
    return control.pause(context, job_id, caller)


@router.post("/{job_id}/resume", responses=declared(404, 409))
def resume_job(job_id: JobId, context: RequestContext, caller: Caller) -> JobDocument:
    """Go on after a pause, at once. Resuming a job that is not paused changes nothing."""
    return control.resume(context, job_id, caller)


@router.post("/{job_id}/promote", responses=declared(404, 409))
def promote_job(job_id: JobId, context: RequestContext, caller: Caller) -> JobDocument:
    """Let a job on hold label all its images; those of its preview are not labelled again.
    Promoting a job that is not on hold changes nothing."""
    return control.promote(context, job_id, caller)


@router.post("/{job_id}/retry", responses=declared(404, 409))
def retry_job(
    job_id: JobId, context: RequestContext, caller: Caller, request: RetryRequest | None = None
) -> JobDocument:
    """Run failed images of an ended job again, and no others. The job runs once more; its next
    manifest has the new outcomes, older ones stay as they are."""
    codes = frozenset((request and request.codes) or ())
    return control.retry(context, job_id, caller, codes=codes)


@router.patch("/{job_id}", responses=declared(404, 409))
def change_job(
    job_id: JobId, change: JobChange, context: RequestContext, caller: Caller
) -> JobDocument:
    """Change the priority of a job that has not ended; shards that run are not interrupted."""
    return control.set_priority(context, job_id, caller, priority=change.priority)
