"""Around every request: a limit, an id, a log line, and a problem when all else fails."""

import re
import secrets
import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem_response

HEADER = "x-request-id"
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("api")


class RequestLog:
    """ASGI middleware. Logs routes, not paths: the path of a download holds its signature."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(_request_id(scope), send)
        with structlog.contextvars.bound_contextvars(request_id=answer.request_id):
            began = time.monotonic()
            try:
                await self._app(scope, receive, answer.send)
            except Exception:
                log.exception("request.failed", method=scope["method"], route=_route(scope))
                if answer.status is not None:
                    raise
                response = problem_response(
                    500,
                    "internal_error",
                    f"Something broke; the log has it as {answer.request_id}.",
                )
                await response(scope, receive, answer.send)
            log.info(
                "request",
                method=scope["method"],
                route=_route(scope),
                status=answer.status,
                milliseconds=round((time.monotonic() - began) * 1000, 1),
            )


class BodyLimit:
    """ASGI middleware. `limit_bytes` says what a method and a path allow."""

    def __init__(self, app: ASGIApp, *, limit_bytes: Callable[[str, str], int]) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            receive = _limited(scope, receive, self._limit_bytes(scope["method"], scope["path"]))
        await self._app(scope, receive, send)


def _limited(scope: Scope, receive: Receive, limit: int) -> Receive:
    """Raises while the body is read, so that the error comes out of the usual handler; a body
    that says it is too long is not read at all."""
    announced = Headers(scope=scope).get("content-length", "")
    is_too_long = announced.isdecimal() and (len(announced) > 15 or int(announced) > limit)
    received = limit + 1 if is_too_long else 0

    async def receive_limited() -> Message:
        nonlocal received
        message: Message = {} if received > limit else await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, f"A body may have {limit} bytes here.")
        return message

    return receive_limited


class _Answer:
    def __init__(self, request_id: str, send: Send) -> None:
        self.request_id = request_id
        self.status: int | None = None
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[HEADER] = self.request_id
        await self._send(message)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(HEADER, "")
    return given if _ACCEPTED_ID.fullmatch(given) else secrets.token_hex(8)


def _route(scope: Scope) -> str:
    """The template (`/v1/jobs/{job_id}`); `unknown` where no route matched."""
    return getattr(scope.get("route"), "path", "unknown")
