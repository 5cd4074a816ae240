"""A proxy before an S3 server that misbehaves on demand."""

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SHARE_OF_REQUESTS = 0.4  # that are struck while the store misbehaves
STALL_SECONDS = 5.0
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_REFUSALS = {"slow down": (503, b"SlowDown"), "internal error": (500, b"InternalError")}


class BadStore(ThreadingHTTPServer):
    """`struck` counts what was done."""

    daemon_threads = True

    def __init__(self, upstream_url: str, *, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.upstream = urlsplit(upstream_url).netloc
        self.struck: Counter[str] = Counter()
        self._fault, self._until = "", 0.0
        self._chance = random.Random(seed)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def misbehave(self, fault: str, *, seconds: float) -> None:
        """`fault` is one of schedule.STORE_FAULTS."""
        self._fault, self._until = fault, time.monotonic() + seconds

    def chosen_fault(self) -> str:
        """What this request suffers; empty for most."""
        if time.monotonic() > self._until or self._chance.random() >= SHARE_OF_REQUESTS:
            return ""
        self.struck[self._fault] += 1
        return self._fault

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that were killed hang up: nothing to report."""


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms between its head and its body
    server: BadStore

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.chosen_fault()
        if fault in _REFUSALS:
            self._refuse(*_REFUSALS[fault])
        elif fault == "reset":
            self._reset()
        else:
            self._forward(body, fault)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass

    def _forward(self, body: bytes, fault: str) -> None:
        connection = HTTPConnection(self.server.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, HTTPException):
            self._reset()
            return
        finally:
            connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") or str(len(data))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
        self.end_headers()
        self._send(data, fault)

    def _send(self, data: bytes, fault: str) -> None:
        if fault == "stall":
            time.sleep(STALL_SECONDS)
        if fault == "truncate" and len(data) > 1:
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif fault == "trickle":
            for start in range(0, len(data), 1 + len(data) // 10):
                self.wfile.write(data[start : start + 1 + len(data) // 10])
                time.sleep(0.1)
        else:
            self.wfile.write(data)

    def _refuse(self, status: int, code: bytes) -> None:
        body = b"<Error><Code>%b</Code><Message>chaos</Message></Error>" % code
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        """Closed with an RST: what the client has not read yet is lost too."""
        with suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True


@contextmanager
def bad_store(upstream_url: str, *, seed: int) -> Iterator[BadStore]:
    with BadStore(upstream_url, seed=seed) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
