"""The one way in which the service fetches an address that a user wrote.

Nothing but http and https, to public addresses, checked on the very address that is connected
to (so that a name cannot change its mind after the check), at every redirect, within limits on
redirects, bytes and seconds. Proxies from the environment, cookies and credentials take no part.
Hosts that the operator named are exempt from the address check only.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

import httpcore
import httpx
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from storage.guarded_network import (
    AddressRefused,
    GuardedBackend,
    Resolve,
    resolve_name,
    time_limit,
)

_HEADERS = [("User-Agent", "maskmill"), ("Accept", "*/*"), ("Accept-Encoding", "identity")]
_REDIRECTS = {301, 302, 303, 307, 308}
_SCHEMES = frozenset({"http", "https"})


class FetchRefused(Exception):
    """The policy forbids this address; nothing was sent to it."""


class FetchFailure(StrEnum):
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"  # worth another try: no connection, broken off, 429, 5xx
    REJECTED = "rejected"  # any other answer


class FetchFailed(Exception):
    def __init__(self, kind: FetchFailure, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class GuardedFetcher:
    """Thread safe; keeps connections to be used again by the next fetch from the same host.

    `allowed_hosts` are `host` (any port) or `host:port`, compared with what the URL says.
    `schemes` may leave out http; redirects are held to them too.
    `resolve` gives the addresses of a name and raises OSError; tests bring their own.
    """

    def __init__(
        self,
        allowed_hosts: Sequence[str] = (),
        *,
        timeout_seconds: float = 30.0,
        max_redirects: int = 3,
        schemes: Collection[str] = _SCHEMES,
        resolve: Resolve = resolve_name,
    ) -> None:
        self._schemes = schemes
        self._timeout_seconds = timeout_seconds
        self._max_redirects = max_redirects
        self._pool = httpcore.ConnectionPool(
            # Honours SSL_CERT_FILE, for operators with an authority of their own.
            ssl_context=httpx.create_ssl_context(),
            max_connections=None,
            max_keepalive_connections=32,
            keepalive_expiry=15.0,
            network_backend=GuardedBackend(allowed_hosts, resolve),
        )

    def get(self, url: str, *, max_bytes: int, timeout_seconds: float | None = None) -> bytes:
        """The body of a 200. Raises `FetchRefused` or `FetchFailed`.

        The time limit covers everything: names, redirects, retries, the last byte.
        """
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        attempts = Retrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_attempt(3) | stop_before_delay(seconds),
            wait=wait_random_exponential(multiplier=0.2, max=2),
            reraise=True,
        )
        with time_limit(seconds):
            return attempts(self._follow, url, max_bytes)

    def close(self) -> None:
        self._pool.close()

    def _follow(self, url: str, max_bytes: int) -> bytes:
        target = self._checked_url(url)
        for _ in range(self._max_redirects + 1):
            with _typed_errors(target.host), self._answer(target) as response:
                if response.status not in _REDIRECTS:
                    return _body(response, max_bytes=max_bytes)
                target = self._checked_url(_location(response), base=target)
        raise FetchRefused(f"more than {self._max_redirects} redirects")

    def _checked_url(self, reference: str, *, base: httpx.URL | None = None) -> httpx.URL:
        url = _checked_url(reference, base=base)
        if url.scheme not in self._schemes:
            names = " and ".join(sorted(self._schemes))
            raise FetchRefused(f"{url.scheme or 'no'} scheme: only {names} are fetched")
        return url

    @contextmanager
    def _answer(self, url: httpx.URL) -> Iterator[httpcore.Response]:
        origin = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        headers = [("Host", url.netloc.decode("ascii")), *_HEADERS]
        with self._pool.stream("GET", origin, headers=headers) as response:
            yield response


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, FetchFailed) and error.kind is FetchFailure.UNAVAILABLE


def _checked_url(reference: str, *, base: httpx.URL | None = None) -> httpx.URL:
    try:
        url = base.join(reference) if base else httpx.URL(reference)
        host = url.host  # decoded here, and a ValueError where it is broken IDNA
    except (httpx.InvalidURL, ValueError) as error:
        raise FetchRefused(f"not an address: {error}"[:200]) from error
    if url.userinfo:
        raise FetchRefused("an address must not carry a user name or password")
    if not host or host.startswith("."):
        raise FetchRefused("the address names no host")
    if url.port is not None and not 0 < url.port < 65536:
        raise FetchRefused("the address has no possible port")
    return url


def _header(response: httpcore.Response, name: bytes) -> str:
    values = [value for key, value in response.headers if key.lower() == name]
    return values[0].decode("latin-1").strip() if values else ""


def _location(response: httpcore.Response) -> str:
    location = _header(response, b"location")
    if not location:
        raise FetchFailed(FetchFailure.REJECTED, f"status {response.status} without Location")
    return location


def _body(response: httpcore.Response, *, max_bytes: int) -> bytes:
    _check_status(response.status)
    if _header(response, b"content-encoding").lower() not in {"", "identity"}:
        raise FetchFailed(FetchFailure.REJECTED, "the answer is compressed, unasked")
    declared = _header(response, b"content-length")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise FetchFailed(FetchFailure.TOO_LARGE, f"{declared} bytes; {max_bytes} are the limit")
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > max_bytes:
            raise FetchFailed(FetchFailure.TOO_LARGE, f"over {max_bytes} bytes, the limit")
    return bytes(body)


def _check_status(status: int) -> None:
    if status == 200:
        return
    kind = FetchFailure.REJECTED
    if status in {404, 410}:
        kind = FetchFailure.NOT_FOUND
    elif status in {401, 403}:
        kind = FetchFailure.FORBIDDEN
    elif status == 429 or status >= 500:
        kind = FetchFailure.UNAVAILABLE
    raise FetchFailed(kind, f"status {status}")


@contextmanager
def _typed_errors(host: str) -> Iterator[None]:
    try:
        yield
    except AddressRefused as error:
        raise FetchRefused(str(error)) from error
    except httpcore.TimeoutException as error:
        raise FetchFailed(FetchFailure.TIMEOUT, f"{host}: took too long") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise FetchFailed(FetchFailure.UNAVAILABLE, f"{host}: {error}"[:200]) from error
