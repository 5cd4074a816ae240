"""Who is calling: `?api_key=`, else `Authorization: Bearer`, else the console's session with its
token, else `api_key` in a JSON body.

The highest of these that is there decides: a bad key there is not made good by another below.
Clients put the key into the body by default, so a body may have to be read to know its sender.
"""

import json
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyQuery, HTTPBearer

from api.context import Context
from api.interactive.refusals import Refused, Stranger
from api.sessions import COOKIE, CSRF_HEADER, find_session, key_of_session, session_cookie
from storage.database import Database
from storage.keys import ApiKey, find_key

_query = APIKeyQuery(name="api_key", auto_error=False, description="Instead of the header")
_bearer = HTTPBearer(auto_error=False, description="An API key: `mm_...`")
_NO_KEY = "Unauthorized api_key"
_BAD_KEY = "Unauthorized api_key. This key is not authorized for serverless inference."


async def find_caller(request: Request, *, is_needed: bool) -> ApiKey | None:
    """Asks the database each time, so that a revoked key ends at once. Raises `Stranger`, and
    `Refused` for a session whose token is missing."""
    secret = _plain_key(request)
    has_cookie = COOKIE in request.cookies
    if secret is None and has_cookie and CSRF_HEADER in request.headers:
        return await run_in_threadpool(_signed_in, request)
    if secret is None:
        secret = await _body_key(request)
    if secret is None and has_cookie:
        raise _without_token()
    if secret is None:
        if is_needed:
            raise Stranger(_NO_KEY)
        return None
    database = request.app.state.context.database
    caller = await run_in_threadpool(_find, database, secret)
    if caller is None:
        raise Stranger(_BAD_KEY)
    return caller


def _plain_key(request: Request) -> str | None:
    """In the address or the header."""
    if "api_key" in request.query_params:
        return request.query_params["api_key"]
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None


def _signed_in(request: Request) -> ApiKey:
    context: Context = request.app.state.context
    session = find_session(request, secret=context.settings.signing_secret.get_secret_value())
    caller = key_of_session(context.database, session) if session else None
    if session is None or caller is None:
        raise Stranger("There is no session, or it has ended; sign in again.")
    if not session.allows(request):
        raise _without_token()
    return caller


def _without_token() -> Refused:
    return Refused(403, "With a session, send the header X-CSRF-Token that belongs to it.")


async def _body_key(request: Request) -> Any:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if content_type.lower() != "application/json":
        return None
    try:
        body = await request.json()
    except json.JSONDecodeError:
        return None
    return body.get("api_key") if isinstance(body, dict) else None


def _find(database: Database, secret: Any) -> ApiKey | None:
    if not isinstance(secret, str) or not secret.isascii():
        return None
    with database.begin() as connection:
        return find_key(connection, secret)


def _caller(
    request: Request,
    _in_query: Annotated[str | None, Depends(_query)],
    _in_header: Annotated[Any, Depends(_bearer)],
    _in_cookie: Annotated[str | None, Depends(session_cookie)],
) -> ApiKey:
    """Whom the route found; the unused dependencies declare the key in the OpenAPI schema."""
    caller: ApiKey = request.state.caller
    return caller


async def _caller_or_stranger(request: Request) -> ApiKey | None:
    caller: ApiKey | None = request.state.caller
    return caller


Caller = Annotated[ApiKey, Depends(_caller)]
CallerOrStranger = Annotated[ApiKey | None, Depends(_caller_or_stranger)]
