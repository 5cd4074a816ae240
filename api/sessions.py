"""Sessions of people in a browser: a signed cookie stands for their API key and does not hold it.

Nothing is stored. The key is looked up at every request, so that its sessions end with it.
"""

import hmac
import secrets
import time
from dataclasses import dataclass

from fastapi import Request
from fastapi.security import APIKeyCookie

from api.signed import mac_of, signed, verified
from storage.database import Database
from storage.keys import ApiKey, find_key_by_id

COOKIE = "maskmill_session"
CSRF_HEADER = "x-csrf-token"
SESSION_SECONDS = 12 * 3600  # from signing in, whatever is done meanwhile
_SAFE_METHODS = {"GET", "HEAD"}

# Declares the cookie in the OpenAPI schema, and reads it.
session_cookie = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    description="In place of a key, of who has signed in to the console. Methods other than GET "
    "then need the header `X-CSRF-Token`, with the token from `GET /console/session`",
)


@dataclass(frozen=True, slots=True)
class Session:
    """`expires_at` in seconds since 1970."""

    token: str
    key_id: str
    expires_at: int
    csrf_token: str

    def allows(self, request: Request) -> bool:
        """Whether the request comes from our own page: others can send the cookie, but not read
        the token that belongs to it."""
        given = request.headers.get(CSRF_HEADER, "")
        is_ours = hmac.compare_digest(given.encode(), self.csrf_token.encode())
        return is_ours or request.method in _SAFE_METHODS


def new_session(key_id: str, *, secret: str) -> Session:
    """One of its own at every sign-in; nobody else has a say in what it is called."""
    expires_at = int(time.time()) + SESSION_SECONDS
    values = [key_id, expires_at, secrets.token_hex(16)]
    return _session(signed(values, purpose="session", secret=secret), key_id, expires_at, secret)


def find_session(request: Request, *, secret: str) -> Session | None:
    """The request's, unless it is forged or has expired. Its key may be revoked."""
    token = request.cookies.get(COOKIE, "")
    values = verified(token, purpose="session", secret=secret)
    if values is None:
        return None
    key_id, expires_at, _ = values
    return _session(token, key_id, expires_at, secret) if expires_at > time.time() else None


def key_of_session(database: Database, session: Session) -> ApiKey | None:
    """None when it was revoked."""
    with database.begin() as connection:
        return find_key_by_id(connection, session.key_id)


def _session(token: str, key_id: str, expires_at: int, secret: str) -> Session:
    return Session(token, key_id, expires_at, mac_of(token, purpose="csrf", secret=secret))
