"""Errors of the single-image routes, in the shapes that Roboflow's clients read.

422 is `{"detail": [...]}`, everything else has a `message`; always application/json, since clients
show any other type as raw text. Neither keys nor what was sent come back.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from domain.workflows.errors import WorkflowError
from storage.lane import LaneError

_MAX_FIELD_ERRORS = 50
_MAX_TEXT = 300
_DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)

log = structlog.get_logger("api")


class Refusal(BaseModel):
    """An error that is nobody's field's."""

    message: str


class Unauthorized(BaseModel):
    """No key, or one that is unknown or revoked."""

    status: int = Field(examples=[401])
    message: str


class WrongMethod(BaseModel):
    """Also for an address with a slash too many."""

    detail: str


class FieldRefusal(BaseModel):
    """What is wrong with one field."""

    type: str
    loc: list[str | int]
    msg: str
    input: float | bool | None = None
    ctx: dict[str, Any] | None = None


class FieldRefusals(BaseModel):
    """What is wrong with the fields of a request."""

    detail: list[FieldRefusal]


_MODELS: dict[int, type[BaseModel]] = {401: Unauthorized, 405: WrongMethod, 422: FieldRefusals}


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route."""
    return {
        status: {
            "model": _MODELS.get(status, Refusal),
            "description": HTTPStatus(status).phrase,
        }
        for status in statuses
    }


class Refused(Exception):
    """Raised anywhere in a single-image request; answered with this body."""

    def __init__(
        self, status: int, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"message": message}
        self.headers = headers


class Stranger(Refused):
    """401; tells a missing key from a wrong one as the hosted service does."""

    def __init__(self, message: str) -> None:
        super().__init__(401, message, headers={"WWW-Authenticate": 'Bearer realm="maskmill"'})
        self.body = {"status": 401, "message": message}


class RefusalResponse(JSONResponse):
    def render(self, content: Any) -> bytes:
        """ASCII, because a refused request may hold text that has no UTF-8."""
        import json

        return json.dumps(content, ensure_ascii=True, allow_nan=False).encode("ascii")


def refusal_response(error: Exception) -> Response:
    """The answer to any error of a request."""
    if isinstance(error, RequestValidationError):
        return RefusalResponse({"detail": _field_refusals(error)}, status_code=422)
    if isinstance(error, Refused):
        return RefusalResponse(error.body, status_code=error.status, headers=error.headers)
    if isinstance(error, WorkflowError):
        return RefusalResponse(error.body, status_code=error.status)
    if isinstance(error, HTTPException):
        return _with_message(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, ClientDisconnect):
        return _with_message(400, "The body ended too early.")
    return _failure_response(error)


def _failure_response(error: Exception) -> Response:
    """Not the caller's fault."""
    if isinstance(error, LaneError):
        return _try_again(str(error), error.retry_after_seconds)
    if isinstance(error, _DATABASE_AWAY):
        log.error("database.unavailable", error=type(error).__name__)
        return _try_again("the database does not answer", 2)
    log.error("request.failed", exc_info=error)
    return _with_message(500, "Internal error.")


def _try_again(reason: str, seconds: int) -> Response:
    message = f"Try again shortly: {reason}."
    return _with_message(503, message, headers={"Retry-After": str(seconds)})


def _with_message(
    status: int, message: str, *, headers: Mapping[str, str] | None = None
) -> Response:
    return RefusalResponse({"message": message}, status_code=status, headers=dict(headers or {}))


def _field_refusals(error: RequestValidationError) -> list[dict[str, Any]]:
    return [_field_refusal(entry) for entry in error.errors()[:_MAX_FIELD_ERRORS]]


def _field_refusal(entry: Mapping[str, Any]) -> dict[str, Any]:
    """As FastAPI shows it, but of what was sent only plain numbers: texts may be images or keys."""
    shown: dict[str, Any] = {
        "type": entry["type"],
        "loc": [part[:_MAX_TEXT] if isinstance(part, str) else part for part in entry["loc"]],
        "msg": str(entry["msg"])[:_MAX_TEXT],
    }
    if entry["type"] != "missing" and _is_plain(entry.get("input")):
        shown["input"] = entry.get("input")
    if entry.get("ctx"):
        shown["ctx"] = {name: _plain(value) for name, value in entry["ctx"].items()}
    return shown


def _is_plain(value: Any) -> bool:
    """Such numbers as JSON can say, and short."""
    if value is None or isinstance(value, bool):
        return True
    return isinstance(value, int | float) and abs(value) < 1e300


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    return value if _is_plain(value) else {}
