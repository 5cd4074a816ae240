"""/v1/jobs/{job_id}/exports"""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.documents import ExportId, IdempotencyKey, JobId, Page
from api.exports import service
from api.exports.asking import delete_made
from api.exports.schemas import ExportDocument, ExportPage, ExportRequest, MadeDocument
from api.problems import declared

router = APIRouter(prefix="/v1/jobs/{job_id}/exports", tags=["exports"], route_class=KeyFirst)

_LOCATION = {"Location": {"schema": {"type": "string"}}}
_REPLAYED = {"Idempotency-Replayed": {"schema": {"type": "string", "enum": ["true"]}}}


def made_or_there(document: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The answers to who asks for one."""
    there = {"model": document, "description": "There is one already"}
    return {202: {"headers": _LOCATION}, 200: {**there, "headers": {**_LOCATION, **_REPLAYED}}}


def say_whether_new(
    response: Response, made: MadeDocument, *, is_new: bool, idempotency_key: str | None
) -> None:
    """As `made_or_there` declares it."""
    response.headers["Location"] = made.links.self
    if not is_new:
        response.status_code = 200
        if idempotency_key is not None:
            response.headers["Idempotency-Replayed"] = "true"


@router.post(
    "",
    status_code=202,
    responses={**made_or_there(ExportDocument), **declared(400, 404, 409, 413)},
)
def create_export(
    job_id: JobId,
    request: ExportRequest,
    response: Response,
    context: RequestContext,
    caller: Caller,
    *,
    idempotency_key: IdempotencyKey = None,
) -> ExportDocument:
    """Show the result in another way, in the format of another tool; no GPU is asked. The same
    options on the same result are the same export, unless that failed or was deleted."""
    export, is_new = service.create(
        context, job_id, caller, request, idempotency_key=idempotency_key
    )
    say_whether_new(response, export, is_new=is_new, idempotency_key=idempotency_key)
    return export


@router.get("", responses=declared(404))
def list_exports(job_id: JobId, context: RequestContext, caller: Caller, page: Page) -> ExportPage:
    """The job's exports, newest first, without their files."""
    return service.list_page(context, job_id, caller, page)


@router.get("/{export_id}", responses=declared(404))
def get_export(
    job_id: JobId, export_id: ExportId, context: RequestContext, caller: Caller, request: Request
) -> ExportDocument:
    """How far it is, and once it has succeeded its files, with links to download them."""
    return service.get(context, job_id, export_id, caller, request=request)


@router.post("/{export_id}/cancel", responses=declared(404, 409))
def cancel_export(
    job_id: JobId, export_id: ExportId, context: RequestContext, caller: Caller
) -> ExportDocument:
    """End it soon; nothing of it stays. Canceling twice changes nothing."""
    return service.cancel(context, job_id, export_id, caller)


@router.delete("/{export_id}", status_code=204, responses=declared(404))
def delete_export(
    job_id: JobId, export_id: ExportId, context: RequestContext, caller: Caller
) -> None:
    """End it if it runs, and remove its files, in some minutes."""
    delete_made(context, job_id, export_id, caller, kind=service.KIND)
