"""Who is calling: `Authorization: Bearer mm_...` on every route under /v1."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.context import RequestContext
from api.problems import ApiProblem
from storage.keys import ApiKey, find_key

_bearer = HTTPBearer(auto_error=False, description="An API key: `mm_...`")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="maskmill"'}


def caller(
    context: RequestContext,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> ApiKey:
    """First in every route, so that a stranger learns nothing, not even of a malformed id."""
    if credentials is None:
        detail = "Send your API key: Authorization: Bearer mm_..."
        raise ApiProblem(401, "missing_key", detail, headers=_CHALLENGE)
    with context.database.begin() as connection:
        key = find_key(connection, credentials.credentials)
    if key is None:
        raise ApiProblem(
            401, "invalid_key", "This API key is unknown or revoked.", headers=_CHALLENGE
        )
    return key


Caller = Annotated[ApiKey, Depends(caller)]


def _admin(key: Caller) -> ApiKey:
    if not key.is_admin:
        raise ApiProblem(403, "admin_only", "Only admin keys may manage keys.")
    return key


AdminCaller = Annotated[ApiKey, Depends(_admin)]
