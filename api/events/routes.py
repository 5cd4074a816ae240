"""/v1/jobs/{job_id}/events"""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.documents import JobId, Page
from api.events import service
from api.events.hub import STREAMS_PER_KEY, TooManyStreams
from api.events.schemas import EventPage
from api.events.stream import EventStream
from api.problems import ApiProblem, declared
from storage.keys import ApiKey

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=KeyFirst)

_STREAM = "text/event-stream"


@router.get(
    "/{job_id}/events",
    response_model=EventPage,
    responses={
        200: {"content": {_STREAM: {"schema": {"type": "string"}}}},
        204: {"description": "The stream is over: the job has ended, and all was sent"},
        **declared(400, 404, 413, 429),
    },
)
async def list_events(
    job_id: JobId,
    request: Request,
    context: RequestContext,
    caller: Caller,
    page: Page,
    *,
    last_event_id: Annotated[str | None, Header(max_length=50)] = None,
    after: Annotated[
        str | None, Query(max_length=50, description="In place of the header Last-Event-ID")
    ] = None,
) -> EventPage | Response:
    """What happened to the job, oldest first. With `Accept: text/event-stream` as server-sent
    events, as they happen, after the one that `Last-Event-ID` names; `limit` and `cursor` are
    those of the JSON page."""
    if _STREAM in request.headers.get("accept", "").lower():
        await _read_body(request)
        return await _stream(context, job_id, caller, last_event_id=last_event_id or after)
    return await run_in_threadpool(service.page_of, context, job_id, caller, page=page)


async def _read_body(request: Request) -> None:
    """Before a stream begins, which reads on to see its reader go: what is wrong with a body could
    no longer be answered then."""
    try:
        await request.body()
    except ClientDisconnect:
        raise ApiProblem(400, "bad_request", "The body ended too early.") from None


async def _stream(
    context: RequestContext, job_id: str, caller: ApiKey, *, last_event_id: str | None
) -> Response:
    position = service.position_of(last_event_id)
    if await run_in_threadpool(service.is_over, context, job_id, caller, after=position):
        return Response(status_code=204)  # which tells an EventSource to stop
    try:
        stream = context.hub.open(job_id, key_id=caller.id, after=position)
    except TooManyStreams:
        detail = f"A key may have {STREAMS_PER_KEY} streams open; close one."
        raise ApiProblem(429, "too_many_streams", detail, headers={"Retry-After": "5"}) from None
    return EventStream(context.hub, stream)
