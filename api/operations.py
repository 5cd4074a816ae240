"""What operators and load balancers ask."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api.checks import check_broker, check_database, check_store
from api.context import RequestContext
from domain.version import code_version

router = APIRouter(tags=["operations"])


class Hello(BaseModel):
    service: str
    version: str
    links: dict[str, str]


class Health(BaseModel):
    status: str


class CheckDocument(BaseModel):
    check: str
    ok: bool
    detail: str


class Readiness(BaseModel):
    ready: bool
    checks: Annotated[list[CheckDocument], Field(description="All that this service needs")]


@router.get("/")
def hello() -> Hello:
    links = {
        "documentation": "/docs",
        "openapi": "/openapi.json",
        "health": "/healthz",
        "readiness": "/readyz",
        "jobs": "/v1/jobs",
    }
    return Hello(service="maskmill", version=code_version(), links=links)


@router.get("/healthz")
def health() -> Health:
    """The process is alive; nothing else is asked."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Something is missing"}})
def ready(context: RequestContext, response: Response) -> Readiness:
    """Whether jobs can be taken: database, migrations, broker and object store."""
    checks = [
        *check_database(context.database, context.settings),
        check_broker(context.settings),
        check_store(lambda: context.store),
    ]
    documents = [CheckDocument.model_validate(c, from_attributes=True) for c in checks]
    is_ready = all(check.ok for check in checks)
    response.status_code = 200 if is_ready else 503
    return Readiness(ready=is_ready, checks=documents)
