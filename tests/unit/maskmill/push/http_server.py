"""What the stand-ins for annotation servers share: HTTP, JSON, and answers that are lost."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from tenacity import RetryCallState

Json = dict[str, Any]


class Refusal(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class JsonServer(ThreadingHTTPServer):
    """`lost` are requests (method and a pattern of the path) which are carried out, but the next
    one's answer never comes; `refused` ones are answered with a status, and not carried out."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lost: list[tuple[str, str]] = []
        self.refused: list[tuple[str, str, int]] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def sent(self, method: str, pattern: str) -> list[Any]:
        """Bodies of such requests."""
        return [body for m, path, body in self.requests if m == method and re.search(pattern, path)]

    def answer(
        self, method: str, path: str, query: Mapping[str, str], body: Any, token: str
    ) -> tuple[int, Any]:
        raise NotImplementedError


@contextmanager
def serving(server: JsonServer) -> Iterator[None]:
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield
        server.shutdown()


def no_pause(_state: RetryCallState) -> float:
    return 0.0


def page_of(entries: list[Any], query: Mapping[str, str]) -> Json:
    """As Django's REST framework divides lists."""
    size, page = int(query.get("page_size", 10)), int(query.get("page", 1))
    some = entries[size * (page - 1) : size * page]
    following = f"?page={page + 1}" if size * page < len(entries) else None
    return {"count": len(entries), "next": following, "previous": None, "results": some}


class _Handler(BaseHTTPRequestHandler):
    server: JsonServer
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]
    wbufsize: ClassVar[int] = -1  # type: ignore[misc]  # an answer is one packet

    def _handle(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        address = urlsplit(self.path)
        body = json.loads(content) if content else None
        with self.server.lock:
            status, answer, is_lost = self._carry_out(
                address.path, dict(parse_qsl(address.query)), body
            )
        if is_lost:
            self.close_connection = True
            return
        encoded = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _carry_out(self, path: str, query: dict[str, str], body: Any) -> tuple[int, Any, bool]:
        method = self.command
        self.server.requests.append((method, path, body))
        for fault in self.server.refused:
            if fault[0] == method and re.search(fault[1], path):
                self.server.refused.remove(fault)
                return fault[2], {"detail": "not now"}, False
        try:
            token = self.headers.get("authorization", "")
            status, answer = self.server.answer(method, path, query, body, token)
        except Refusal as refusal:
            return refusal.status, {"detail": str(refusal)}, False
        for loss in self.server.lost:
            if loss[0] == method and re.search(loss[1], path):
                self.server.lost.remove(loss)
                return status, answer, True
        return status, answer, False

    def log_message(self, *_arguments: object) -> None: ...
