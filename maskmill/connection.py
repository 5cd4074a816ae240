"""HTTP to the service: one place for addresses, keys, retries and errors."""

import ipaddress
from collections.abc import Mapping
from typing import IO, Any
from urllib.parse import urlsplit

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

ATTEMPTS = 6
_LONGEST_PAUSE_SECONDS = 5.0
_TRANSIENT = frozenset({502, 503, 504})
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class MaskmillError(Exception):
    """Whatever goes wrong with the service."""


class ServiceUnreachableError(MaskmillError):
    """Nobody answers at the address."""


class ApiError(MaskmillError):
    """The service refused. Decide by `code`; `problem` is its whole answer (RFC 9457)."""

    def __init__(
        self, status: int, code: str, message: str, *, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(f"{message} ({code})")
        self.status = status
        self.code = code
        self.message = message
        self.problem = dict(problem or {})


class Connection:
    """Thread safe. The key goes to the service only, never to the links it hands out."""

    def __init__(self, url: str, api_key: str | None, *, timeout_seconds: float) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            timeout=timeout_seconds,
            trust_env=not _is_this_machine(url),  # a proxy cannot reach our own machine
            headers={"User-Agent": "maskmill"},
        )

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, *, repeatable: bool = True, **options: Any) -> Any:
        """`repeatable`: sending it twice does no harm, so that a lost answer is asked again."""
        headers = {**self._headers, **options.pop("headers", {})}

        def send() -> httpx.Response:
            return self._http.request(method, self.url + path, headers=headers, **options)

        return self._answer(send, repeatable=repeatable).json()

    def put(self, path: str, file: IO[bytes]) -> Any:
        def send() -> httpx.Response:
            file.seek(0)
            return self._http.put(self.url + path, content=file, headers=self._headers)

        return self._answer(send, repeatable=True).json()

    def download(self, url: str) -> bytes:
        return self._answer(lambda: self._http.get(url), repeatable=True).content

    def _answer(self, send: Any, *, repeatable: bool) -> httpx.Response:
        def attempt() -> httpx.Response:
            response: httpx.Response = send()
            if not response.is_success:
                raise _api_error(response)
            return response

        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=_LONGEST_PAUSE_SECONDS),
            retry=retry_if_exception(lambda error: _is_transient(error, repeatable)),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except httpx.TransportError as error:
            raise ServiceUnreachableError(f"no answer from {self.url}: {error}") from error
        except httpx.InvalidURL as error:
            raise ServiceUnreachableError(f"{self.url!r} is not an address: {error}") from error


def _is_transient(error: BaseException, repeatable: bool) -> bool:
    if isinstance(error, _NEVER_SENT):
        return True
    if isinstance(error, ApiError):
        return repeatable and error.status in _TRANSIENT
    return repeatable and isinstance(error, httpx.TransportError)


def _api_error(response: httpx.Response) -> ApiError:
    try:
        problem = response.json()
        return ApiError(response.status_code, problem["code"], problem["detail"], problem=problem)
    except (ValueError, KeyError, TypeError):
        status = response.status_code
        return ApiError(status, "http_error", f"HTTP {status} {response.reason_phrase}".strip())


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
