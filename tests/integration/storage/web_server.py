"""A web server on loopback whose answers a test writes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


class Request(BaseHTTPRequestHandler):
    """One request under way; a page answers by calling these methods."""

    protocol_version = "HTTP/1.1"
    server: "WebServer"

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        self.server.page(self)

    do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Headers with `_` for `-`; a Content-Length may be given to lie about it."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **names}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, piece: bytes, *, every_seconds: float, times: int) -> None:
        """Send the piece again and again, until the client or the test has had enough."""
        try:
            for _ in range(times):
                self.wfile.write(piece)
                self.wfile.flush()
                if self.server.over.wait(every_seconds):
                    break
        except OSError:
            pass
        self.close_connection = True

    def hang_up(self) -> None:
        self.close_connection = True


Page = Callable[[Request], None]


class WebServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, page: Page) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.page = page
        self.seen: list[str] = []
        self.connections = 0
        self.over = Event()

    def get_request(self):  # type: ignore[no-untyped-def]
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what is tested."""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"


@contextmanager
def serving(page: Page) -> Iterator[WebServer]:
    with WebServer(page) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds
