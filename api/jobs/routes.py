"""/v1/jobs"""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.documents import JobId, Page
from api.jobs import service
from api.jobs.schemas import EventPage, JobDocument, JobPage, JobRequest
from api.problems import declared
from domain.lifecycle import JobStatus

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=KeyFirst)

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key and body again answer with the same job",
    ),
]


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
    return service.cancel(context, job_id, caller)


@router.get("/{job_id}/events", responses=declared(404))
def list_events(job_id: JobId, context: RequestContext, caller: Caller, page: Page) -> EventPage:
    """What happened to the job, oldest first."""
    return service.events(context, job_id, caller, page=page)
