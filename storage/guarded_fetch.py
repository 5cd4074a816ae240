"""The one way in which the service fetches an address that a user wrote.

Nothing but http and https, to public addresses, checked on the very address that is connected
to (so that a name cannot change its mind after the check), at every redirect, within limits on
redirects, bytes and seconds. Proxies from the environment, cookies and credentials take no part.
Hosts that the operator named are exempt from the address check only.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from types import MappingProxyType

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
from storage.reading import Reading

_HEADERS = [("User-Agent", "maskmill"), ("Accept", "*/*"), ("Accept-Encoding", "identity")]
_REDIRECTS = {301, 302, 303, 307, 308}
_SCHEMES = frozenset({"http", "https"})
_DROPPED_BYTES = 4096
_TOLD_BYTES = 2**20


class FetchRefused(Exception):
    """The policy forbids this address; nothing was sent to it."""


class FetchFailure(StrEnum):
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"  # worth another try, though not at once: 429, 503
    UNAVAILABLE = "unavailable"  # worth another try: no connection, broken off, other 5xx
    REJECTED = "rejected"  # any other answer


_TRANSIENT = {FetchFailure.OVERLOADED, FetchFailure.UNAVAILABLE}


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

    def get_once(self, url: str, *, max_bytes: int, reading: Reading) -> bytes:
        """As `get`, tried once, in the time that is left there."""
        with time_limit(reading.seconds_to_answer()):
            return self._follow(url, max_bytes, reading)

    def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str], timeout_seconds: float
    ) -> int:
        """Send `body` once, following no redirect; the answer's status, whatever it is.

        Its body is dropped. Raises `FetchRefused`, or `FetchFailed` where no answer came in time.
        """
        target = self._checked_url(url)
        with (
            time_limit(timeout_seconds),
            _typed_errors(target.host),
            self._answer(target, method="POST", headers=headers, body=body) as response,
        ):
            _drop_body(response)
            return response.status

    def close(self) -> None:
        self._pool.close()

    def _follow(self, url: str, max_bytes: int, reading: Reading | None = None) -> bytes:
        target = self._checked_url(url)
        for _ in range(self._max_redirects + 1):
            with _typed_errors(target.host), self._answer(target) as response:
                if response.status not in _REDIRECTS:
                    return _body(response, max_bytes=max_bytes, reading=reading)
                target = self._checked_url(_location(response), base=target)
        raise FetchRefused(f"more than {self._max_redirects} redirects")

    def _checked_url(self, reference: str, *, base: httpx.URL | None = None) -> httpx.URL:
        url = parsed_address(reference, base=base)
        if url.scheme not in self._schemes:
            names = " and ".join(sorted(self._schemes))
            raise FetchRefused(f"{url.scheme or 'no'} scheme: only {names} are fetched")
        return url

    @contextmanager
    def _answer(
        self,
        url: httpx.URL,
        *,
        method: str = "GET",
        headers: Mapping[str, str] = MappingProxyType({}),
        body: bytes | None = None,
    ) -> Iterator[httpcore.Response]:
        origin = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        sent = [("Host", url.netloc.decode("ascii")), *_HEADERS, *headers.items()]
        with self._pool.stream(method, origin, headers=sent, content=body) as response:
            yield response


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, FetchFailed) and error.kind in _TRANSIENT


def parsed_address(reference: str, *, base: httpx.URL | None = None) -> httpx.URL:
    """Raises `FetchRefused` for what is no address, or hides something in it."""
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


def _drop_body(response: httpcore.Response) -> None:
    """Read to the end, so that the connection can be used again, unless that is far away."""
    read = 0
    with suppress(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        for chunk in response.iter_stream():
            read += len(chunk)
            if read > _DROPPED_BYTES:
                break


def _header(response: httpcore.Response, name: bytes) -> str:
    values = [value for key, value in response.headers if key.lower() == name]
    return values[0].decode("latin-1").strip() if values else ""


def _location(response: httpcore.Response) -> str:
    location = _header(response, b"location")
    if not location:
        raise FetchFailed(FetchFailure.REJECTED, f"status {response.status} without Location")
    return location


def _body(response: httpcore.Response, *, max_bytes: int, reading: Reading | None) -> bytes:
    _check_status(response.status)
    if _header(response, b"content-encoding").lower() not in {"", "identity"}:
        raise FetchFailed(FetchFailure.REJECTED, "the answer is compressed, unasked")
    declared = _header(response, b"content-length")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise FetchFailed(FetchFailure.TOO_LARGE, f"{declared} bytes; {max_bytes} are the limit")
    if reading is None:
        return _read(response, max_bytes=max_bytes)
    reading.expect(int(declared) if declared.isdecimal() else 0)
    with time_limit(reading.seconds_left()):
        return _read(response, max_bytes=max_bytes, grown=reading.expect)


def _read(
    response: httpcore.Response, *, max_bytes: int, grown: Callable[[int], None] = lambda _: None
) -> bytes:
    """`grown` hears of the size now and then: not every server says it beforehand."""
    body = bytearray()
    told = 0
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > max_bytes:
            raise FetchFailed(FetchFailure.TOO_LARGE, f"over {max_bytes} bytes, the limit")
        if len(body) > told + _TOLD_BYTES:
            told = len(body)
            grown(told)
    return bytes(body)


def _check_status(status: int) -> None:
    if status == 200:
        return
    kind = FetchFailure.REJECTED
    if status in {404, 410}:
        kind = FetchFailure.NOT_FOUND
    elif status in {401, 403}:
        kind = FetchFailure.FORBIDDEN
    elif status in {429, 503}:
        kind = FetchFailure.OVERLOADED
    elif status >= 500:
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
