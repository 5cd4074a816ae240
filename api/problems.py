"""Errors as RFC 9457 problems. `code` is stable; `title` and `detail` are for people."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from domain.errors import InvalidRequest
from storage.object_store import ObjectForbidden, ObjectNotFound, StoreError

MEDIA_TYPE = "application/problem+json"
_MAX_FIELD_ERRORS = 20
_MAX_MESSAGE = 300
_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}

log = structlog.get_logger("api")


class FieldError(BaseModel):
    field: str = Field(description="Where in the request, e.g. `body.prompts.0.text`")
    message: str


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str = Field(examples=["urn:maskmill:problem:unknown_model"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int
    code: str = Field(description="Stable; decide by this one", examples=["unknown_model"])
    detail: str
    errors: list[FieldError] | None = Field(None, description="Of an invalid request")


class ApiProblem(Exception):
    """Raised anywhere in a request; answered as a problem."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers


def not_found(what: str) -> ApiProblem:
    return ApiProblem(404, "not_found", f"There is no such {what}, or it is not yours.")


class ProblemResponse(JSONResponse):
    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        """ASCII, because a refused request may hold text that has no UTF-8."""
        import json

        return json.dumps(content, ensure_ascii=True).encode("ascii")


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[FieldError] | None = None,
) -> Response:
    problem = Problem(
        type=f"urn:maskmill:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
    )
    content = problem.model_dump(exclude_none=True)
    if errors is not None:
        content["errors"] = [error.model_dump() for error in errors]
    return ProblemResponse(content, status_code=status, headers=dict(headers or {}))


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route. `api.app` gives them their media type in the schema."""
    return {
        status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses
    }


def install_problem_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ApiProblem, _api_problem)
    app.add_exception_handler(InvalidRequest, _invalid_request)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(DataError, _data_error)
    for unavailable in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(unavailable, _database_unavailable)
    app.add_exception_handler(StoreError, _store_error)


def _api_problem(_request: Request, error: Any) -> Response:
    return problem_response(error.status, error.code, error.detail, headers=error.headers)


def _invalid_request(_request: Request, error: Any) -> Response:
    return problem_response(422, error.code, error.message)


def _validation_error(_request: Request, error: Any) -> Response:
    """Names fields and reasons; never repeats what was sent."""
    found = [
        FieldError(
            field=".".join(str(part) for part in entry["loc"])[:_MAX_MESSAGE],
            message=str(entry["msg"]).removeprefix("Value error, ")[:_MAX_MESSAGE],
        )
        for entry in error.errors()[:_MAX_FIELD_ERRORS]
    ]
    detail = "; ".join(f"{entry.field}: {entry.message}" for entry in found[:3])
    return problem_response(422, "invalid_request", detail, errors=found)


def _http_exception(_request: Request, error: Any) -> Response:
    code = _CODES.get(error.status_code, "http_error")
    headers = error.headers
    return problem_response(error.status_code, code, str(error.detail), headers=headers)


def _data_error(_request: Request, _error: Any) -> Response:
    return problem_response(422, "invalid_request", "The request holds a value out of range.")


def _database_unavailable(_request: Request, error: Any) -> Response:
    log.error("database.unavailable", error=type(error).__name__)
    return problem_response(
        503,
        "database_unavailable",
        "The database does not answer; try again shortly.",
        headers={"Retry-After": "2"},
    )


def _store_error(_request: Request, error: Any) -> Response:
    log.error("store.failed", error=str(error))
    if isinstance(error, ObjectNotFound):
        return problem_response(404, "object_not_found", "The object is not there (any more).")
    if isinstance(error, ObjectForbidden):
        detail = "The object store refuses the service this object."
        return problem_response(403, "object_forbidden", detail)
    return problem_response(
        503,
        "store_unavailable",
        "The object store does not do what was asked; try again shortly.",
        headers={"Retry-After": "5"},
    )
