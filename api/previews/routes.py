"""/v1/jobs/{job_id}/preview"""

from fastapi import APIRouter, Request, Response

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.documents import JobId
from api.previews import service
from api.previews.schemas import PreviewDocument, PreviewRequest
from api.problems import declared

router = APIRouter(prefix="/v1/jobs/{job_id}/preview", tags=["previews"], route_class=KeyFirst)


@router.post(
    "",
    status_code=202,
    responses={
        200: {"model": PreviewDocument, "description": "There is one already"},
        **declared(404, 409, 413),
    },
)
def create_preview(
    job_id: JobId,
    response: Response,
    context: RequestContext,
    caller: Caller,
    request: PreviewRequest | None = None,
) -> PreviewDocument:
    """Label some of the images of a job on hold, chosen by chance, and report on them: what each
    prompt finds, which overlap, how long all images would take. Then promote the job, or cancel it
    and make another one."""
    preview, is_new = service.create(context, job_id, caller, request or PreviewRequest())
    if not is_new:
        response.status_code = 200
    return preview


@router.get("", responses=declared(404))
def get_preview(
    job_id: JobId, context: RequestContext, caller: Caller, request: Request
) -> PreviewDocument:
    """How far it is, and once it has succeeded its report, with links to download it as a page."""
    return service.get(context, job_id, caller, request=request)
