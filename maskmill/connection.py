"""HTTP to the service: one place for addresses, keys, retries and errors."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeGuard
from urllib.parse import urlsplit

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

ATTEMPTS = 6
_LONGEST_PAUSE_SECONDS = 5.0
_LONGEST_LIMIT_SECONDS = 60.0  # of what a 429 may ask for
_SILENCE_SECONDS = 45.0  # streams are kept alive every 15 s
_CHUNK_BYTES = 2**20
_TRANSIENT = frozenset({502, 503, 504})
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class MaskmillError(Exception):
    """Whatever goes wrong with the service."""


class ServiceUnreachableError(MaskmillError):
    """Nobody answers at the address."""


class ApiError(MaskmillError):
    """The service refused. Decide by `code`; `problem` is its whole answer (RFC 9457)."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        problem: Mapping[str, Any] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{message} ({code})")
        self.status = status
        self.code = code
        self.message = message
        self.problem = dict(problem or {})
        self.retry_after_seconds = retry_after_seconds


class Connection:
    """Thread safe. The key goes to the service only, never to the links it hands out."""

    def __init__(self, url: str, api_key: str | None, *, timeout_seconds: float) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            timeout=timeout_seconds,
            trust_env=not is_this_machine(url),  # a proxy cannot reach our own machine
            headers={"User-Agent": "maskmill"},
        )

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, *, repeatable: bool = True, **options: Any) -> Any:
        """`repeatable`: sending it twice does no harm, so that a lost answer is asked again."""
        headers = {**self._headers, **options.pop("headers", {})}

        def send() -> httpx.Response:
            return self._http.request(method, self.url + path, headers=headers, **options)

        answer = self._answer(send, repeatable=repeatable)
        return answer.json() if answer.content else None

    def put(self, path: str, file: IO[bytes]) -> Any:
        def send() -> httpx.Response:
            file.seek(0)
            return self._http.put(self.url + path, content=file, headers=self._headers)

        return self._answer(send, repeatable=True).json()

    @contextmanager
    def stream(self, path: str, *, headers: Mapping[str, str]) -> Iterator[Iterator[bytes] | None]:
        """An answer's bytes as they come, None where it has none (204). Nothing is sent again."""
        try:
            with self._http.stream(
                "GET",
                self.url + path,
                headers={**self._headers, **headers},
                timeout=_SILENCE_SECONDS,
            ) as response:
                if not response.is_success:
                    response.read()
                    raise _api_error(response)
                yield response.iter_bytes() if response.status_code != 204 else None
        except httpx.TransportError as error:
            raise ServiceUnreachableError(f"no answer from {self.url}: {error}") from error

    def download(self, url: str) -> bytes:
        return self._answer(lambda: self._http.get(url), repeatable=True).content

    def fetch(self, url: str, path: Path, *, on_bytes: Callable[[int], None]) -> None:
        """Write what is behind a link to `path`, after what lies there already: where a connection
        breaks it goes on. `on_bytes` is told how much there is."""

        def send() -> httpx.Response:
            start = path.stat().st_size if path.exists() else 0
            headers = {"Range": f"bytes={start}-"} if start else {}
            with self._http.stream("GET", url, headers=headers) as response:
                if not response.is_success:
                    response.read()
                    return response
                with path.open("ab" if response.status_code == 206 else "wb") as out:
                    for chunk in response.iter_bytes(_CHUNK_BYTES):
                        out.write(chunk)
                        on_bytes(out.tell())
            return response

        self._answer(send, repeatable=True)

    def _answer(self, send: Any, *, repeatable: bool) -> httpx.Response:
        def attempt() -> httpx.Response:
            response: httpx.Response = send()
            if not response.is_success:
                raise _api_error(response)
            return response

        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=_pause_seconds,
            retry=retry_if_exception(
                lambda error: _came_too_often(error) or _is_transient(error, repeatable)
            ),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except httpx.TransportError as error:
            raise ServiceUnreachableError(f"no answer from {self.url}: {error}") from error
        except httpx.InvalidURL as error:
            raise ServiceUnreachableError(f"{self.url!r} is not an address: {error}") from error


_growing = wait_random_exponential(multiplier=0.2, max=_LONGEST_PAUSE_SECONDS)


def _pause_seconds(state: RetryCallState) -> float:
    """As long as a limit says, within reason; else longer every time."""
    error = state.outcome.exception() if state.outcome else None
    if _came_too_often(error) and error.retry_after_seconds is not None:
        return min(error.retry_after_seconds, _LONGEST_LIMIT_SECONDS)
    return _growing(state)


def _came_too_often(error: BaseException | None) -> TypeGuard[ApiError]:
    """Nothing was done, and the service says when to come back."""
    return isinstance(error, ApiError) and error.code == "too_many_requests"


def _is_transient(error: BaseException, repeatable: bool) -> bool:
    if isinstance(error, _NEVER_SENT):
        return True
    if isinstance(error, ApiError):
        return repeatable and error.status in _TRANSIENT
    return repeatable and isinstance(error, httpx.TransportError)


def _api_error(response: httpx.Response) -> ApiError:
    status, header = response.status_code, response.headers.get("retry-after", "")
    seconds = float(header) if header.isdecimal() else None
    try:
        problem = response.json()
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        problem, code = None, "http_error"
        detail = f"HTTP {status} {response.reason_phrase}".strip()
    return ApiError(status, code, detail, problem=problem, retry_after_seconds=seconds)


def is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
