"""/v1/jobs/{job_id}/deliveries and /v1/webhooks"""

from fastapi import APIRouter, Response

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.documents import DeliveryId, JobId, Page
from api.problems import declared
from api.webhooks import service
from api.webhooks.schemas import DeliveryDocument, DeliveryPage, WebhookSecret

router = APIRouter(prefix="/v1", tags=["webhooks"], route_class=KeyFirst)


@router.get("/webhooks/secret")
def get_secret(context: RequestContext, caller: Caller, response: Response) -> WebhookSecret:
    """What the webhooks of your key's jobs are signed with."""
    response.headers["Cache-Control"] = "no-store"
    return service.secret_of(context, caller)


@router.get("/jobs/{job_id}/deliveries", responses=declared(404))
def list_deliveries(
    job_id: JobId, context: RequestContext, caller: Caller, page: Page
) -> DeliveryPage:
    """The calls to the job's webhook and how they went, oldest first."""
    return service.list_page(context, job_id, caller, page=page)


@router.post("/jobs/{job_id}/deliveries/{delivery_id}/redeliver", responses=declared(404, 409))
def redeliver(
    job_id: JobId, delivery_id: DeliveryId, context: RequestContext, caller: Caller
) -> DeliveryDocument:
    """Send it now, and if need be again as often as a new one."""
    return service.redeliver(context, job_id, delivery_id, caller)
