"""What all calls of a client have in common."""

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from domain.documents import JobPromptDocument
from maskmill.answers import Answer
from maskmill.connection import Connection

DEFAULT_URL = "http://127.0.0.1:8000"
PATIENCE_SECONDS = 60.0
_PAGE = 500

AnswerT = TypeVar("AnswerT", bound=Answer)


class Calls:
    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_seconds: float = 60.0,
    ) -> None:
        self._connection = Connection(
            url or os.environ.get("MASKMILL_URL") or DEFAULT_URL,
            api_key or os.environ.get("MASKMILL_API_KEY"),
            timeout_seconds=timeout_seconds,
        )
        self.url = self._connection.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def _get(self, kind: type[AnswerT], path: str, **query: Any) -> AnswerT:
        answer = self._connection.json("GET", path, params=_present(query))
        return kind.model_validate(answer)

    def _pages(self, kind: type[AnswerT], path: str, **query: Any) -> Iterator[AnswerT]:
        cursor: str | None = None
        while True:
            params = _present({**query, "limit": _PAGE, "cursor": cursor})
            page = self._connection.json("GET", path, params=params)
            for entry in page["data"]:
                yield kind.model_validate(entry)
            cursor = page["next_cursor"]
            if cursor is None:
                return


def prompt_body(prompt: JobPromptDocument | str) -> dict[str, Any]:
    if isinstance(prompt, str):
        return {"text": prompt}
    return prompt.model_dump(exclude_none=True)


def segment(value: str) -> str:
    return quote(value, safe="")


def _present(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
