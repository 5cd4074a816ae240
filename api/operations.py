"""What operators and load balancers ask."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.checks import Check, check_broker, check_database, check_store
from api.console.pages import page, wants_page
from api.context import RequestContext
from domain.version import code_version
from storage.database import Database
from storage.object_store import ObjectStore
from storage.settings import Settings

router = APIRouter(tags=["operations"])
log = structlog.get_logger("api")


class Hello(BaseModel):
    service: str
    version: str
    links: dict[str, str]


class Health(BaseModel):
    status: str


class Info(BaseModel):
    """Of the server, as Roboflow's clients ask for it."""

    name: str
    version: str
    uuid: str = Field(description="Of this process")


class CheckDocument(BaseModel):
    check: str
    ok: bool
    detail: str


class Readiness(BaseModel):
    ready: bool
    checks: Annotated[list[CheckDocument], Field(description="All that this service needs")]


@router.get(
    "/",
    response_model=Hello,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
def hello(request: Request, response: Response) -> Hello | Response:
    """Where things are; for browsers, the console."""
    if wants_page(request):
        return page(request)
    response.headers["Vary"] = "Accept"
    links = {
        "documentation": "/docs",
        "openapi": "/openapi.json",
        "health": "/healthz",
        "readiness": "/readyz",
        "jobs": "/v1/jobs",
        "single images": "/sam3/concept_segment",
        "metrics": "/metrics",
    }
    return Hello(service="maskmill", version=code_version(), links=links)


@router.get("/healthz")
def health() -> Health:
    """The process is alive; nothing else is asked."""
    return Health(status="healthy")


@router.get("/info")
def info(context: RequestContext) -> Info:
    return Info(name="maskmill", version=code_version(), uuid=context.server_id)


@router.get("/readiness", responses={503: {"model": Health, "description": "Not ready"}})
async def readiness(context: RequestContext, response: Response) -> Health:
    """Whether single images are answered, in one word, `ready` or `not_ready`: all that `/readyz`
    looks at, and a worker of the lane."""
    checks, counts = await context.checks(), await context.lane_counts()
    has_worker = counts is not None and counts["workers"] > 0
    is_ready = all(check.ok for check in checks) and has_worker
    response.status_code = 200 if is_ready else 503
    return Health(status="ready" if is_ready else "not_ready")


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Something is missing"}})
async def ready(context: RequestContext, response: Response) -> Readiness:
    """Whether jobs can be taken: database, migrations, broker and object store."""
    checks = await context.checks()
    is_ready = all(check.ok for check in checks)
    response.status_code = 200 if is_ready else 503
    return Readiness(ready=is_ready, checks=[_document(check) for check in checks])


def _document(check: Check) -> CheckDocument:
    """For strangers: what a driver says of a failure may hold addresses and names."""
    detail = check.detail if check.ok else "see the service's log or `maskmill doctor`"
    return CheckDocument(check=check.check, ok=check.ok, detail=detail)


def checked(settings: Settings, database: Database, store: ObjectStore) -> list[Check]:
    """What `ready` answers; says in the log why something fails."""
    checks = [
        *check_database(database, settings),
        check_broker(settings),
        check_store(lambda: store),
    ]
    for check in checks:
        if not check.ok:
            log.warning("not.ready", check=check.check, detail=check.detail, mend=check.mend)
    return checks
