"""/v1/jobs/{job_id}/timings"""

from fastapi import APIRouter

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.documents import JobId
from api.problems import declared
from api.timings import service
from api.timings.schemas import Timings

router = APIRouter(prefix="/v1/jobs/{job_id}/timings", tags=["jobs"], route_class=KeyFirst)


@router.get("", responses=declared(404, 409))
def get_timings(job_id: JobId, context: RequestContext, caller: Caller) -> Timings:
    """When the job did what, how many images it did over time, and how long they took, of some
    that are spread over the job."""
    return service.timings(context, job_id, caller)
