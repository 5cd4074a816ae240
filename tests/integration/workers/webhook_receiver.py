"""A receiver of webhooks that fails in the ways receivers do."""

import socket
import struct
import threading

from tests.integration.storage.web_server import Page, Request


class Receiver:
    """Keeps what comes; `pages` answer one call each, then all is well."""

    def __init__(self, *pages: Page) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.pages = list(pages)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with self._lock:
            self.calls.append(({k.lower(): v for k, v in request.headers.items()}, body))
            page = self.pages.pop(0) if self.pages else well
        page(request)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in list(self.calls)]


def well(request: Request) -> None:
    request.answer(204)


def answering(status: int, **headers: str) -> Page:
    return lambda request: request.answer(status, b"no", **headers)


def reset(request: Request) -> None:
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()
    request.hang_up()


def silent(request: Request) -> None:
    request.server.over.wait(20)
    request.hang_up()


def endless(request: Request) -> None:
    request.send_response(200)
    request.end_headers()
    request.drip(b"x" * 1000, every_seconds=0.01, times=2000)
