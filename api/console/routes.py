"""/console/session"""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from api.auth import csrf_token_missing, invalid_key, no_session
from api.console.schemas import SessionDocument, SignIn
from api.context import RequestContext
from api.problems import declared
from api.sessions import COOKIE, SESSION_SECONDS, find_session, key_of_session, new_session
from domain.version import code_version
from storage.keys import find_key

router = APIRouter(prefix="/console/session", tags=["console"])

_SET_COOKIE = {"headers": {"Set-Cookie": {"schema": {"type": "string"}}}}
_UNSTORED = {"Cache-Control": "no-store"}


@router.post(
    "", status_code=204, responses={204: _SET_COOKIE, **declared(400, 401, 413, 422, 429, 503)}
)
def sign_in(request: Request, asked: SignIn, context: RequestContext) -> Response:
    """Begin a session of 12 hours, kept in a cookie."""
    with context.database.begin() as connection:
        key = find_key(connection, asked.api_key.get_secret_value())
    if key is None:
        raise invalid_key()
    limit = context.request_limit.take(key.id)
    session = new_session(key.id, secret=context.settings.signing_secret.get_secret_value())
    response = Response(status_code=204, headers={**_UNSTORED, **limit})
    response.set_cookie(
        COOKIE,
        session.token,
        max_age=SESSION_SECONDS,
        secure=_is_secure(request),
        httponly=True,
        samesite="strict",
    )
    return response


@router.get("", responses=declared(401, 503))
def get_session(request: Request, response: Response, context: RequestContext) -> SessionDocument:
    """Whose session it is, and the token that other methods need."""
    secret = context.settings.signing_secret.get_secret_value()
    session = find_session(request, secret=secret)
    key = key_of_session(context.database, session) if session else None
    if session is None or key is None:
        raise no_session()
    response.headers.update(_UNSTORED)
    return SessionDocument(
        key_name=key.name,
        is_admin=key.is_admin,
        csrf_token=session.csrf_token,
        expires_at=datetime.fromtimestamp(session.expires_at, UTC),
        version=code_version(),
    )


@router.delete("", status_code=204, responses={204: _SET_COOKIE, **declared(403)})
def sign_out(request: Request, context: RequestContext) -> Response:
    """Forget the cookie. Without a session nothing happens."""
    secret = context.settings.signing_secret.get_secret_value()
    session = find_session(request, secret=secret)
    if session is not None and not session.allows(request):
        raise csrf_token_missing()
    response = Response(status_code=204, headers=_UNSTORED)
    response.delete_cookie(COOKIE, secure=_is_secure(request), httponly=True, samesite="strict")
    return response


def _is_secure(request: Request) -> bool:
    """Behind a proxy that ends TLS and is not believed, only the browser knows."""
    is_told = request.headers.get("origin", "").startswith("https://")
    return is_told or request.url.scheme == "https"
