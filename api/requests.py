"""Around every request: a limit, an id, a span, a log line, and a problem when all else fails."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http_metrics import HttpMetrics
from api.problems import problem_response
from api.sessions import CSRF_HEADER
from storage.tracing import Span, span

HEADER = "x-request-id"
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("api")


class RequestLog:
    """ASGI middleware. Logs routes, not paths: the path of a download holds its signature."""

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send, metrics=self._metrics)
        parent = Headers(scope=scope).get("traceparent")
        with (
            structlog.contextvars.bound_contextvars(request_id=answer.request_id),
            span(scope["method"], parent=parent, kind="server") as request_span,
        ):
            await self._answer(scope, receive, answer)
            log.info(
                "request",
                method=scope["method"],
                route=_route(scope),
                status=answer.status,
                milliseconds=round(answer.seconds * 1000, 1),
                key=_key_id(scope),
            )
            _describe(request_span, scope, answer)

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            log.exception("request.failed", method=scope["method"], route=_route(scope))
            if answer.status is not None:
                raise
            said = f"Something broke; the log has it as {answer.request_id}."
            response = problem_response(500, "internal_error", said)
            await response(scope, receive, answer.send)


class BodyLimit:
    """ASGI middleware. `limit_bytes` says what a method and a path allow. A body that is held in
    memory has `seconds` to come in; those of senders who have not said who they are, since a key
    may be in the body, have `strangers_bytes` together.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit_bytes: Callable[[str, str], int],
        seconds: float,
        strangers_bytes: int,
    ) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._seconds = seconds
        self._strangers_bytes = strangers_bytes
        self._of_strangers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, limit=self._limit_bytes(scope["method"], scope["path"]))
        is_stranger = _is_stranger(scope)
        began = asyncio.get_running_loop().time()
        is_timed = scope["method"] != "PUT"  # uploads go to disk as they come

        async def receive_limited() -> Message:
            ends = began + self._seconds if is_timed and body.is_coming else None
            try:
                async with asyncio.timeout_at(ends):
                    message = await body.receive()
            except TimeoutError:
                detail = f"A body has {self._seconds:g} s to come in."
                raise HTTPException(408, detail, headers={"Connection": "close"}) from None
            if is_stranger:
                self._of_strangers += len(message.get("body", b""))
                if self._of_strangers > self._strangers_bytes:
                    detail = "Too many bodies are on their way; send the key in a header."
                    raise HTTPException(503, detail, headers={"Retry-After": "2"})
            return message

        try:
            await self._app(scope, receive_limited, send)
        finally:
            if is_stranger:
                self._of_strangers -= body.received


class _Body:
    """Raises while the body is read, so that the error comes out of the usual handler; a body
    that says it is too long is not read at all."""

    def __init__(self, scope: Scope, receive: Receive, *, limit: int) -> None:
        announced = Headers(scope=scope).get("content-length", "")
        is_too_long = announced.isdecimal() and (len(announced) > 15 or int(announced) > limit)
        self._receive = receive
        self._limit = limit
        self._refused = is_too_long
        self.received = 0
        self.is_coming = True

    async def receive(self) -> Message:
        message: Message = {} if self._refused else await self._receive()
        self.received += len(message.get("body", b""))
        if self._refused or self.received > self._limit:
            raise HTTPException(413, f"A body may have {self._limit} bytes here.")
        self.is_coming = bool(message.get("more_body", False))
        return message


def _is_stranger(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    has_header = "authorization" in headers or CSRF_HEADER in headers
    return not has_header and b"api_key=" not in scope["query_string"]


class _Answer:
    def __init__(self, scope: Scope, send: Send, *, metrics: HttpMetrics) -> None:
        self.request_id = _request_id(scope)
        self.status: int | None = None
        self._scope = scope
        self._send = send
        self._metrics = metrics
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = status = int(message["status"])
            MutableHeaders(scope=message)[HEADER] = self.request_id
            method, route = self._scope["method"], _route(self._scope)
            self._metrics.answered(method, route, status=status, seconds=self.seconds)
        await self._send(message)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(HEADER, "")
    return given if _ACCEPTED_ID.fullmatch(given) else secrets.token_hex(8)


def _key_id(scope: Scope) -> str | None:
    """Of the API key, once the route has found whose it is."""
    return getattr(scope.get("state", {}).get("caller"), "id", None)


def _describe(request_span: Span, scope: Scope, answer: _Answer) -> None:
    request_span.rename(f"{scope['method']} {_route(scope)}")
    request_span.set(
        **{
            "http.request.method": scope["method"],
            "http.route": _route(scope),
            "http.response.status_code": answer.status,
            "request_id": answer.request_id,
            "key_id": _key_id(scope),
        }
    )
    if answer.status is not None and answer.status >= 500:
        request_span.fail(str(answer.status))


def _route(scope: Scope) -> str:
    """The template (`/v1/jobs/{job_id}`); `unknown` where no route matched."""
    return getattr(scope.get("route"), "path", "unknown")
