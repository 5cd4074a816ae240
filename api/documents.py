"""What requests and lists have in common."""

import base64
import binascii
import json
import re
from typing import Annotated, Any

from fastapi import Depends, Header, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.problems import ApiProblem, not_found

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # neither PostgreSQL nor UTF-8 has these


class RequestDocument(BaseModel):
    """A request's body. Unknown fields are refused: a mistyped one must not be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _check_texts(cls, value: Any) -> Any:
        """Iterative, since a body may be nested deeper than Python's stack."""
        rest = [value]
        while rest:
            entry = rest.pop()
            if isinstance(entry, str) and _UNSTORABLE.search(entry):
                raise ValueError("text must not hold NUL or lone surrogates")
            if isinstance(entry, dict):
                rest += [*entry.keys(), *entry.values()]
            elif isinstance(entry, list):
                rest += entry
        return value


NextCursor = Annotated[
    str | None, Field(description="Pass it as `cursor` for the next page; null at the end")
]


class PageRequest(BaseModel):
    limit: int
    cursor: str | None

    def after(self, *kinds: type) -> list[Any] | None:
        """What the cursor holds, None on the first page."""
        if self.cursor is None:
            return None
        try:
            values = json.loads(base64.urlsafe_b64decode(self.cursor + "=="))
        except (binascii.Error, ValueError, RecursionError):
            values = None
        if not isinstance(values, list) or [type(v) for v in values] != list(kinds):
            raise _not_a_cursor()
        if any(isinstance(v, str) and _UNSTORABLE.search(v) for v in values):
            raise _not_a_cursor()
        return values


def _not_a_cursor() -> ApiProblem:
    return ApiProblem(422, "invalid_cursor", "This cursor is not one of ours.")


def cursor_of(*values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def _page(
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> PageRequest:
    return PageRequest(limit=limit, cursor=cursor)


Page = Annotated[PageRequest, Depends(_page)]


def _checked_id(prefix: str, value: str, what: str) -> str:
    if not re.fullmatch(f"{prefix}_[0-9a-z]{{26}}", value):
        raise not_found(what)
    return value


def _job_id(job_id: str) -> str:
    return _checked_id("job", job_id, "job")


def _dataset_id(dataset_id: str) -> str:
    return _checked_id("ds", dataset_id, "dataset")


def _key_id(key_id: str) -> str:
    return _checked_id("key", key_id, "key")


def _delivery_id(delivery_id: str) -> str:
    return _checked_id("msg", delivery_id, "delivery")


def _export_id(export_id: str) -> str:
    return _checked_id("exp", export_id, "export")


def _evaluation_id(evaluation_id: str) -> str:
    return _checked_id("evl", evaluation_id, "evaluation")


JobId = Annotated[str, Depends(_job_id)]
DatasetId = Annotated[str, Depends(_dataset_id)]
KeyId = Annotated[str, Depends(_key_id)]
DeliveryId = Annotated[str, Depends(_delivery_id)]
ExportId = Annotated[str, Depends(_export_id)]
EvaluationId = Annotated[str, Depends(_evaluation_id)]

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key and body again answer with the same thing, and make no other",
    ),
]
