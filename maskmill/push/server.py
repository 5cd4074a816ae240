"""HTTP to an annotation server: retries, and errors that say what to do."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from domain.printable import printable
from maskmill.connection import MaskmillError, is_this_machine

T = TypeVar("T")

TOKEN_VARIABLE = "MASKMILL_PUSH_TOKEN"  # noqa: S105

_ATTEMPTS = 6
_LONGEST_PAUSE_SECONDS = 5.0
_LONGEST_LIMIT_SECONDS = 60.0  # of what a 429 may ask for
_TIMEOUT_SECONDS = 300.0  # large imports take minutes
_TOO_MANY_REQUESTS = 429
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


class TokenAuth(httpx.Auth):
    """A token that is sent as it is, after a word that says of which kind it is."""

    def __init__(self, scheme: str, token: str) -> None:
        self._header = f"{scheme} {token}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = self._header
        yield request


class Server:
    """The token goes to this address only: redirects are not followed."""

    def __init__(self, url: str, auth: httpx.Auth, *, name: str) -> None:
        self.url = url.rstrip("/")
        self.params: dict[str, Any] = {}  # of all requests
        self.name = name
        self._http = httpx.Client(
            auth=auth,
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

    def get(self, path: str, **params: Any) -> Any:
        return self.send("GET", path, repeatable=True, params=params).json()

    def pages(self, path: str, **params: Any) -> Iterator[Any]:
        """What a list holds, page by page."""
        page = 1
        while True:
            answer = self.get(path, page=page, **params)
            yield from answer["results"]
            if answer["next"] is None:
                return
            page += 1

    def send(
        self, method: str, path: str, *, repeatable: bool = False, **options: Any
    ) -> httpx.Response:
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
    ) -> httpx.Response:
        lost = UnreachableError if repeatable else UnsureError
        asked = {**options, "params": {**self.params, **options.get("params", {})}}
        try:
            response = self._http.request(method, self.url + path, **asked)
        except _NEVER_SENT as error:
            raise UnreachableError(self._no_answer(error)) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise PushError(f"{self.url!r} is not an address: {error}") from error
        except httpx.TransportError as error:
            raise lost(self._no_answer(error)) from error
        if response.status_code in _TRANSIENT:
            raise lost(self._no_answer(f"{response.status_code} {_detail(response)}"))
        if not response.is_success:
            raise self._refusal(response)
        return response

    def _no_answer(self, why: object) -> str:
        return f"no answer from {self.name} at {self.url}: {why}"

    def _refusal(self, response: httpx.Response) -> PushError:
        status, detail = response.status_code, _detail(response)
        if status == _TOO_MANY_REQUESTS:
            return UnreachableError(self._no_answer(detail), pause_seconds=_asked_pause(response))
        if status in (401, 403):
            message = f"{self.name} at {self.url} does not accept the token ({detail}). Set "
            message += f"{TOKEN_VARIABLE} to one of a user who may change the project."
        else:
            what = f"{response.request.method} {response.request.url.path}"
            message = f"{self.name} answers {status} to {what}: {detail}"
        if response.is_redirect:
            message += f"; it moved to {response.headers.get('location')}"
        return RefusedError(message, status=status)


def in_requests(
    items: Iterable[T], size: Callable[[T], int], *, most: int, most_items: int | None = None
) -> Iterator[list[T]]:
    """As many as one request may hold, by their number and the sum of their sizes; a larger one
    goes alone."""
    batch: list[T] = []
    held = 0
    for item in items:
        if batch and (len(batch) == most_items or held + size(item) > most):
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += size(item)
    if batch:
        yield batch


def _detail(response: httpx.Response) -> str:
    """What the server says, or the name of the status; no pages of HTML."""
    text = response.text.strip()
    if "html" in response.headers.get("content-type", "") or not text:
        return response.reason_phrase
    return printable(text[:_LONGEST_DETAIL])


def _asked_pause(response: httpx.Response) -> float | None:
    seconds = response.headers.get("retry-after", "")
    return min(float(seconds), _LONGEST_LIMIT_SECONDS) if seconds.isdecimal() else None


_growing = wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE_SECONDS)


def _pause_seconds(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, UnreachableError) and error.pause_seconds is not None:
        return error.pause_seconds
    return _growing(state)
