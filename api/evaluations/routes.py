"""/v1/jobs/{job_id}/evaluations"""

from fastapi import APIRouter, Request, Response

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.documents import EvaluationId, IdempotencyKey, JobId, Page
from api.evaluations import service
from api.evaluations.schemas import EvaluationDocument, EvaluationPage, EvaluationRequest
from api.exports.asking import delete_made
from api.exports.routes import made_or_there, say_whether_new
from api.problems import declared

router = APIRouter(
    prefix="/v1/jobs/{job_id}/evaluations", tags=["evaluations"], route_class=KeyFirst
)

# It names files and prompts as others called them: of no origin, and without scripts.
_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.post(
    "",
    status_code=202,
    responses={**made_or_there(EvaluationDocument), **declared(400, 403, 404, 409, 413)},
)
def create_evaluation(
    job_id: JobId,
    request: EvaluationRequest,
    response: Response,
    context: RequestContext,
    caller: Caller,
    *,
    idempotency_key: IdempotencyKey = None,
) -> EvaluationDocument:
    """Compare the result with ground truth: mask AP as COCO has it, SAM 3's cgF1, pmF1 and IL_MCC,
    a threshold for each prompt, and the worst images. No GPU is asked. The same truth and options
    on the same result are the same evaluation, unless that failed or was deleted."""
    evaluation, is_new = service.create(
        context, job_id, caller, request, idempotency_key=idempotency_key
    )
    say_whether_new(response, evaluation, is_new=is_new, idempotency_key=idempotency_key)
    return evaluation


@router.get("", responses=declared(404))
def list_evaluations(
    job_id: JobId, context: RequestContext, caller: Caller, page: Page
) -> EvaluationPage:
    """The job's evaluations, newest first, without their reports."""
    return service.list_page(context, job_id, caller, page)


@router.get("/{evaluation_id}", responses=declared(404))
def get_evaluation(
    job_id: JobId,
    evaluation_id: EvaluationId,
    context: RequestContext,
    caller: Caller,
    request: Request,
) -> EvaluationDocument:
    """How far it is, and once it has succeeded its report, with links to download it as a page."""
    return service.get(context, job_id, evaluation_id, caller, request=request)


@router.get(
    "/{evaluation_id}/report.html",
    response_class=Response,
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}},
        **declared(404, 409),
    },
)
def show_report(
    job_id: JobId, evaluation_id: EvaluationId, context: RequestContext, caller: Caller
) -> Response:
    """Once it has succeeded, its report as a page to look at; `files` have it to download."""
    page = service.report_page(context, job_id, evaluation_id, caller)
    return Response(page, media_type="text/html", headers=_PAGE_HEADERS)


@router.post("/{evaluation_id}/cancel", responses=declared(404, 409))
def cancel_evaluation(
    job_id: JobId, evaluation_id: EvaluationId, context: RequestContext, caller: Caller
) -> EvaluationDocument:
    """End it soon; nothing of it stays. Canceling twice changes nothing."""
    return service.cancel(context, job_id, evaluation_id, caller)


@router.delete("/{evaluation_id}", status_code=204, responses=declared(404))
def delete_evaluation(
    job_id: JobId, evaluation_id: EvaluationId, context: RequestContext, caller: Caller
) -> None:
    """End it if it runs, and remove its files, in some minutes."""
    delete_made(context, job_id, evaluation_id, caller, kind=service.KIND)
