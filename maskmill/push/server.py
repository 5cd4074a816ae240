"""HTTP to an annotation server: retries, and errors that say what to do.

The server is somebody else's: answers are checked, and bounded in size and time.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from domain.printable import printable
from maskmill.connection import MaskmillError, is_this_machine

TOKEN_VARIABLE = "MASKMILL_PUSH_TOKEN"  # noqa: S105

_ATTEMPTS = 6
_LONGEST_PAUSE_SECONDS = 5.0
_LONGEST_LIMIT_SECONDS = 60.0  # of what a 429 may ask for
_TIMEOUT_SECONDS = 300.0  # large imports take minutes
_LONGEST_ANSWER_SECONDS = 900.0  # from its first byte to its last
_LARGEST_ANSWER_BYTES = 256 << 20  # CVAT sends back what it was sent
_MOST_PAGES = 10_000
_UNAUTHORIZED, _TOO_MANY_REQUESTS = 401, 429
_TRANSIENT = frozenset({502, 503, 504})
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_LONGEST_DETAIL = 500  # characters


class PushError(MaskmillError):
    """The push cannot go on. What has been sent stays, and is not sent again by another try."""


class RefusedError(PushError):
    """The server said no."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class UnreachableError(PushError):
    """The server does not answer, or not now; nothing was changed."""

    def __init__(self, message: str, *, pause_seconds: float | None = None) -> None:
        super().__init__(message)
        self.pause_seconds = pause_seconds


class UnsureError(PushError):
    """The answer to a change was lost: it may have been made, or not."""


class Answer(BaseModel):
    """Unknown fields are let through."""

    model_config = ConfigDict(frozen=True)


AnswerT = TypeVar("AnswerT", bound=Answer)
ItemT = TypeVar("ItemT")


class _Page(Answer, Generic[AnswerT]):
    results: list[AnswerT]
    next: str | None


class Credentials(Protocol):
    """What to send as the Authorization header."""

    def header(self, server: "Server") -> str: ...

    def renew(self) -> bool:
        """The server has not accepted it: whether it may accept the next one."""

    def hidden(self, text: str) -> str:
        """Without what must not be shown."""


class Token:
    """One that is sent as it is, after a word that says of which kind it is."""

    def __init__(self, scheme: str, token: str) -> None:
        self._scheme, self._token = scheme, plain_token(token)

    def header(self, _server: "Server") -> str:
        return f"{self._scheme} {self._token}"

    def renew(self) -> bool:
        return False

    def hidden(self, text: str) -> str:
        return text.replace(self._token, "***")


def plain_token(token: str) -> str:
    """Raise `PushError` for what no header can hold; an error of HTTP would show it."""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise PushError(f"{TOKEN_VARIABLE} has spaces or characters that no token has")
    return token


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    headers: httpx.Headers
    reason: str
    content: bytes

    @property
    def detail(self) -> str:
        """What the server says, or the name of the status; no pages of HTML."""
        text = self.content.decode(errors="replace").strip()
        is_html = "html" in self.headers.get("content-type", "")
        return self.reason if is_html or not text else text


class Server:
    """The token goes to this address only: redirects are not followed."""

    def __init__(self, url: str, credentials: Credentials, *, name: str) -> None:
        self.url = _plain_address(url)
        self.params: dict[str, Any] = {}  # of all requests
        self.name = name
        self._credentials = credentials
        self._http = httpx.Client(
            timeout=_TIMEOUT_SECONDS,
            trust_env=not is_this_machine(url),  # a proxy cannot reach our own machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, kind: type[AnswerT], path: str, **params: Any) -> AnswerT:
        return self.read(kind, self.send("GET", path, repeatable=True, params=params))

    def post(self, kind: type[AnswerT], path: str, json: Any) -> AnswerT:
        return self.read(kind, self.send("POST", path, json=json))

    def pages(self, kind: type[AnswerT], path: str, **params: Any) -> Iterator[AnswerT]:
        """What a list holds, page by page."""
        for page in self.page_numbers():
            answer = self.get(_Page[kind], path, page=page, **params)  # type: ignore[valid-type]
            yield from answer.results
            if answer.next is None:
                return
            if not answer.results:
                raise PushError(f"{self.name} at {self.url} lists pages without end")

    def page_numbers(self) -> Iterator[int]:
        """From 1; raise `PushError` where there are too many."""
        yield from range(1, _MOST_PAGES + 1)
        raise PushError(f"{self.name} at {self.url} lists more than {_MOST_PAGES:,} pages")

    def read(self, kind: type[AnswerT], content: bytes) -> AnswerT:
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise PushError(
                f"{self.url} answers what {self.name} does not answer ({where}: {first['msg']}): "
                "is this its address?"
            ) from error

    def send(self, method: str, path: str, *, repeatable: bool = False, **options: Any) -> bytes:
        """`repeatable`: sending it twice does no harm, so that a lost answer is asked again. Else
        raise `UnsureError` for one. Raise `RefusedError` and `UnreachableError`."""
        retrying = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=_pause_seconds,
            retry=retry_if_exception_type(UnreachableError),
            reraise=True,
        )
        return retrying(self._attempt, method, path, repeatable, options)

    def _attempt(
        self, method: str, path: str, repeatable: bool, options: Mapping[str, Any]
    ) -> bytes:
        response = self._signed(method, path, repeatable, options)
        if response.status == _UNAUTHORIZED and self._credentials.renew():
            response = self._signed(method, path, repeatable, options)
        return self._accepted(response, f"{method} {path}", repeatable)

    def _signed(
        self, method: str, path: str, repeatable: bool, options: Mapping[str, Any]
    ) -> _Response:
        signed = {"Authorization": self._credentials.header(self), **options.get("headers", {})}
        return self._response(method, path, repeatable, {**options, "headers": signed})

    def unsigned(self, path: str, json: Any) -> bytes:
        """What a POST without the Authorization header is answered with."""
        response = self._response("POST", path, True, {"json": json})
        return self._accepted(response, f"POST {path}", True)

    def _response(
        self, method: str, path: str, repeatable: bool, options: Mapping[str, Any]
    ) -> _Response:
        asked = {**options, "params": {**self.params, **options.get("params", {})}}
        try:
            with self._http.stream(method, self.url + path, **asked) as response:
                content = self._content(response)
                return _Response(
                    response.status_code, response.headers, response.reason_phrase, content
                )
        except _NEVER_SENT as error:
            raise UnreachableError(self._no_answer(error)) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise PushError(f"{self.url!r} is not an address: {error}") from error
        except httpx.RequestError as error:
            raise _lost(repeatable)(self._no_answer(error)) from error

    def _content(self, response: httpx.Response) -> bytes:
        deadline = time.monotonic() + _LONGEST_ANSWER_SECONDS
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _LARGEST_ANSWER_BYTES or time.monotonic() > deadline:
                raise PushError(f"{self.name} at {self.url} gives an answer that does not end")
        return bytes(content)

    def _accepted(self, response: _Response, what: str, repeatable: bool) -> bytes:
        if response.status in _TRANSIENT:
            detail = self._shown(response.detail)
            raise _lost(repeatable)(self._no_answer(f"{response.status} {detail}"))
        if not 200 <= response.status < 300:
            raise self._refusal(response, what)
        return response.content

    def _no_answer(self, why: object) -> str:
        return f"no answer from {self.name} at {self.url}: {why}"

    def _shown(self, text: str) -> str:
        return printable(self._credentials.hidden(text)[:_LONGEST_DETAIL])

    def _refusal(self, response: _Response, what: str) -> PushError:
        status, detail = response.status, self._shown(response.detail)
        if status == _TOO_MANY_REQUESTS:
            return UnreachableError(self._no_answer(detail), pause_seconds=_asked_pause(response))
        if status in (_UNAUTHORIZED, 403):
            message = f"{self.name} at {self.url} does not accept the token ({detail}). Set "
            message += f"{TOKEN_VARIABLE} to one of a user who may change the project."
        else:
            message = f"{self.name} answers {status} to {what}: {detail}"
        if (location := response.headers.get("location")) is not None:
            message += f"; it moved to {self._shown(location)}"
        return RefusedError(message, status=status)


def _plain_address(url: str) -> str:
    """Raise `PushError` for one with a name and a password: error texts would show them."""
    try:
        has_name = urlsplit(url).username is not None
    except ValueError as error:
        raise PushError(f"{url!r} is not an address: {error}") from error
    if has_name:
        raise PushError(f"give the address without a user name; {TOKEN_VARIABLE} says who you are")
    return url.rstrip("/")


def _lost(repeatable: bool) -> type[UnreachableError | UnsureError]:
    return UnreachableError if repeatable else UnsureError


def in_requests(
    items: Iterable[ItemT],
    size: Callable[[ItemT], int],
    *,
    most: int,
    most_items: int | None = None,
) -> Iterator[list[ItemT]]:
    """As many as one request may hold, by their number and the sum of their sizes; a larger one
    goes alone."""
    batch: list[ItemT] = []
    held = 0
    for item in items:
        if batch and (len(batch) == most_items or held + size(item) > most):
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += size(item)
    if batch:
        yield batch


def _asked_pause(response: _Response) -> float | None:
    seconds = response.headers.get("retry-after", "")
    return min(float(seconds), _LONGEST_LIMIT_SECONDS) if seconds.isdecimal() else None


_growing = wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE_SECONDS)


def _pause_seconds(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, UnreachableError) and error.pause_seconds is not None:
        return error.pause_seconds
    return _growing(state)
