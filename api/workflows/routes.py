"""/workflows/run and its aliases, as Roboflow's clients call them"""

from typing import Any

from fastapi import APIRouter, Response

from api.context import RequestContext
from api.interactive.keys import Caller
from api.interactive.refusals import Refused, declared
from api.interactive.route import SingleImageRoute
from api.workflows import service
from api.workflows.schemas import WorkflowAnswer, WorkflowBody, WorkflowRefusal

_REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"model": WorkflowRefusal, "description": description}
    for status, description in ((400, "Bad Request"), (404, "Not Found"))
}

router = APIRouter(
    tags=["single images"],
    route_class=SingleImageRoute,
    strict_content_type=False,
    responses={**declared(401, 403, 405, 413, 422, 500, 503), **_REFUSED},
)


@router.post("/workflows/run", response_model=WorkflowAnswer)
@router.post("/infer/workflows", response_model=WorkflowAnswer, operation_id="infer_workflow")
async def run_workflow(body: WorkflowBody, context: RequestContext, caller: Caller) -> Response:
    """Run a workflow made of the blocks that are known here."""
    return await service.run(context, caller, body)


@router.post("/{workspace}/workflows/{workflow_id}", response_model=WorkflowAnswer)
@router.post(
    "/infer/workflows/{workspace}/{workflow_id}",
    response_model=WorkflowAnswer,
    operation_id="infer_named_workflow",
)
async def run_named_workflow(workspace: str, workflow_id: str, _caller: Caller) -> Response:
    """No workflows are stored here: always 404."""
    name = f"{workspace}/{workflow_id}"[:100]
    raise Refused(
        404,
        f"There is no workflow {name!r}: none are stored here, send the specification to "
        "/workflows/run.",
    )
