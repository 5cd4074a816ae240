"""Who is calling: `Authorization: Bearer mm_...` on every route under /v1."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.context import Context
from api.problems import ApiProblem
from storage.database import Database
from storage.keys import ApiKey, find_key

_bearer = HTTPBearer(auto_error=False, description="An API key: `mm_...`")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="maskmill"'}


class KeyFirst(APIRoute):
    """Asks for the key before all else: FastAPI parses a body before it solves dependencies, and
    a stranger's is not even read, nor that of a key that asks too often."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_caller(request: Request) -> Response:
            credentials = await _bearer(request)
            context: Context = request.app.state.context
            request.state.caller, limit = await run_in_threadpool(_admit, context, credentials)
            response = await answer(request)
            response.headers.update(limit)
            return response

        return answer_caller


def _admit(
    context: Context, credentials: HTTPAuthorizationCredentials | None
) -> tuple[ApiKey, dict[str, str]]:
    """The caller, and what to tell it of its limit."""
    key = _find_caller(context.database, credentials)
    return key, context.request_limit.take(key.id)


def _find_caller(database: Database, credentials: HTTPAuthorizationCredentials | None) -> ApiKey:
    if credentials is None:
        detail = "Send your API key: Authorization: Bearer mm_..."
        raise ApiProblem(401, "missing_key", detail, headers=_CHALLENGE)
    with database.begin() as connection:
        key = find_key(connection, credentials.credentials)
    if key is None:
        raise ApiProblem(
            401, "invalid_key", "This API key is unknown or revoked.", headers=_CHALLENGE
        )
    return key


def caller(
    request: Request,
    _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> ApiKey:
    """Whom `KeyFirst` found; the unused dependency declares the key in the OpenAPI schema."""
    key: ApiKey = request.state.caller
    return key


Caller = Annotated[ApiKey, Depends(caller)]


def _admin(key: Caller) -> ApiKey:
    if not key.is_admin:
        raise ApiProblem(403, "admin_only", "Only admin keys may manage keys.")
    return key


AdminCaller = Annotated[ApiKey, Depends(_admin)]
