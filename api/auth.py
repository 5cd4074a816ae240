"""Who is calling: `Authorization: Bearer mm_...`, else the console's session, on every route under
/v1."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.context import Context
from api.problems import ApiProblem
from api.sessions import COOKIE, find_session, key_of_session, session_cookie
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
            request.state.caller, limit = await run_in_threadpool(
                _admit, context, credentials, request
            )
            response = await answer(request)
            response.headers.update(limit)
            return response

        return answer_caller


def _admit(
    context: Context, credentials: HTTPAuthorizationCredentials | None, request: Request
) -> tuple[ApiKey, dict[str, str]]:
    """The caller, and what to tell it of its limit."""
    if credentials is not None:
        key = _key_of(context.database, credentials)
    else:
        key = _signed_in(context, request)
    return key, context.request_limit.take(key.id)


def _key_of(database: Database, credentials: HTTPAuthorizationCredentials) -> ApiKey:
    with database.begin() as connection:
        key = find_key(connection, credentials.credentials)
    if key is None:
        raise invalid_key()
    return key


def _signed_in(context: Context, request: Request) -> ApiKey:
    if COOKIE not in request.cookies:
        detail = "Send your API key: Authorization: Bearer mm_..."
        raise ApiProblem(401, "missing_key", detail, headers=_CHALLENGE)
    session = find_session(request, secret=context.settings.signing_secret.get_secret_value())
    key = key_of_session(context.database, session) if session else None
    if session is None or key is None:
        raise no_session()
    if not session.allows(request):
        raise csrf_token_missing()
    return key


def invalid_key() -> ApiProblem:
    detail = "This API key is unknown or revoked."
    return ApiProblem(401, "invalid_key", detail, headers=_CHALLENGE)


def no_session() -> ApiProblem:
    detail = "There is no session, or it has ended; sign in again."
    return ApiProblem(401, "no_session", detail, headers=_CHALLENGE)


def csrf_token_missing() -> ApiProblem:
    detail = "With a session, send the header X-CSRF-Token that belongs to it."
    return ApiProblem(403, "csrf_token_missing", detail)


def caller(
    request: Request,
    _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    _cookie: Annotated[str | None, Depends(session_cookie)],
) -> ApiKey:
    """Whom `KeyFirst` found; the unused dependencies declare key and cookie in the OpenAPI
    schema."""
    key: ApiKey = request.state.caller
    return key


Caller = Annotated[ApiKey, Depends(caller)]


def _admin(key: Caller) -> ApiKey:
    if not key.is_admin:
        raise ApiProblem(403, "admin_only", "Only admin keys may manage keys.")
    return key


AdminCaller = Annotated[ApiKey, Depends(_admin)]
