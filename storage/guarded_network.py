"""Connections to public addresses only, within a time limit: the network under guarded_fetch."""
# ruff: noqa: ARG002  (the arguments are httpcore's; its time limits per read are not ours)

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any

import httpcore
import httpx

from storage.public_addresses import is_public

Resolve = Callable[[str], Sequence[str]]


class AddressRefused(Exception):
    """The host has an address that is not public; no connection was made."""


# The end of the fetch that runs in this thread. It cannot lie with the connection, which
# outlives the fetch; and httpcore's own time limits are per read, which a slow drip resets.
_deadline: ContextVar[float] = ContextVar("fetch_deadline")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """All that `GuardedBackend` does in this block takes at most `seconds` together."""
    token = _deadline.set(monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def _remaining_seconds() -> float:
    seconds = _deadline.get() - monotonic()
    if seconds <= 0:
        raise httpcore.ReadTimeout("the fetch's time is up")
    return seconds


class _DeadlineStream(httpcore.NetworkStream):
    """A connection on which every wait ends with the fetch's time."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining_seconds())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining_seconds())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _remaining_seconds())
        return _DeadlineStream(stream)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class GuardedBackend(httpcore.NetworkBackend):
    """Resolves a name once, checks every address, and connects to those very addresses."""

    def __init__(self, allowed_hosts: Sequence[str], resolve: Resolve) -> None:
        self._allowed = exempt_hosts(allowed_hosts)
        self._resolve = resolve
        self._tcp = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _resolve_in_time(self._resolve, host)
        if not is_exempt(host, port, self._allowed):
            for address in addresses:
                if not is_public(address):
                    raise AddressRefused(f"{host} is not a public address")
        return _DeadlineStream(self._connect_first(addresses, port))

    def _connect_first(self, addresses: Sequence[str], port: int) -> httpcore.NetworkStream:
        """Each address gets its share of the time left, so that a dead first one leaves some."""
        for position, address in enumerate(addresses):
            share = _remaining_seconds() / (len(addresses) - position)
            try:
                return self._tcp.connect_tcp(address, port, timeout=share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if position == len(addresses) - 1:
                    raise
        raise httpcore.ConnectError("the name has no address")


ExemptHosts = frozenset[tuple[str, int | None]]


def exempt_hosts(allowed_hosts: Sequence[str]) -> ExemptHosts:
    return frozenset(map(_host_and_port, allowed_hosts))


def is_exempt(host: str, port: int, allowed: ExemptHosts) -> bool:
    """Whether the operator named the host, or the host with this port."""
    return bool(allowed & {(host.lower(), port), (host.lower(), None)})


def _host_and_port(entry: str) -> tuple[str, int | None]:
    try:
        url = httpx.URL(f"any://{entry}")
    except httpx.InvalidURL as error:
        raise ValueError(f"allowed host {entry!r}: {error}") from error
    if not url.host or (url.port or 1) not in range(1, 65536):
        raise ValueError(f"allowed host {entry!r}: give host, or host:port")
    return url.host.lower(), url.port


def resolve_name(host: str) -> list[str]:
    """Addresses of a name or literal, in the order in which the system would try them."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _resolve_in_time(resolve: Resolve, host: str) -> Sequence[str]:
    """The system's resolver takes no time limit and cannot be interrupted: leave it behind."""
    answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolve(host))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=_remaining_seconds())
    except queue.Empty:
        raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from None
    if isinstance(answer, Exception):
        raise httpcore.ConnectError(f"{host} does not resolve")
    return answer
