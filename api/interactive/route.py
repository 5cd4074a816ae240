"""A single-image route: the key first, then the body, then FastAPI; every error in one shape."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from api.interactive.keys import find_caller
from api.interactive.refusals import refusal_response

_PARSED_AT_ONCE_BYTES = 64 * 2**10  # a millisecond at most; more is parsed in a thread
_MAX_VALUES = 100_000  # a body of `[[[...` or `{},{},...` would be 30 times its size in memory


class SingleImageRoute(APIRoute):
    """FastAPI parses bodies before it solves dependencies; a stranger's gets no such attention."""

    needs_key = True

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_caller(request: Request) -> Response:
            read = _ReadOnce(request.scope, request.receive)
            try:
                read.state.caller = await find_caller(read, is_needed=self.needs_key)
                return await answer(read)
            except Exception as error:
                return refusal_response(error)

        return answer_caller


class OpenRoute(SingleImageRoute):
    """A key is looked at if there is one."""

    needs_key = False


class _ReadOnce(Request):
    """Its JSON is parsed once, for the key and for FastAPI, and away from the event loop."""

    async def json(self) -> Any:
        if not hasattr(self, "_parsed"):
            self._parsed = await self._parse()
        return self._parsed

    async def _parse(self) -> Any:
        body = await self.body()
        if len(body) <= _PARSED_AT_ONCE_BYTES:
            return _parsed_json(body)
        return await run_in_threadpool(_parsed_json, body)


def _parsed_json(body: bytes) -> Any:
    """Raises `JSONDecodeError` for all that is no JSON: FastAPI makes a 422 of it, passes an
    HTTPException on, and makes 400 of any other error."""
    if sum(map(body.count, (b"{", b"[", b","))) > _MAX_VALUES:
        raise HTTPException(413, f"A body may hold {_MAX_VALUES} values here.")
    try:
        return json.loads(body)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # no UTF-8, an endless number, too deep
        raise json.JSONDecodeError(type(error).__name__, "", 0) from error
