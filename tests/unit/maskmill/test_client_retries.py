"""What the client sends again, and what it never does, shown by a server that misbehaves."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
import pytest
from tenacity import RetryCallState, Retrying

from maskmill.client import ApiError, Client, ServiceUnreachableError
from maskmill.connection import ATTEMPTS, _api_error, _pause_seconds

Answer = tuple[int, dict[str, Any]] | tuple[int, dict[str, Any], dict[str, str]] | None
"""Status, body and headers; None hangs up without an answer."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        answer = self.server.answers.pop(0)
        if answer is None:
            self.close_connection = True
            return
        status, content, *headers = answer
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers[0] if headers else {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_arguments: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as opened:
        threading.Thread(target=opened.serve_forever, daemon=True).start()
        yield opened
        opened.shutdown()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{server.server_port}", "mm_key") as opened:
        yield opened


OK = (200, {"status": "healthy"})
BUSY = (503, {"code": "database_unavailable", "detail": "x"})
LIMITED = (429, {"code": "too_many_requests", "detail": "x"}, {"Retry-After": "1"})
DATASET = (201, {"id": "ds_1", "name": "x", "linked": False, "created_at": "2026-01-01T00:00:00Z"})


def test_a_question_is_asked_again_after_a_hiccup(server: Server, client: Client) -> None:
    server.answers = [BUSY, (502, {}), None, OK]
    assert client.health()
    assert len(server.requests) == 4


def test_a_refusal_is_not_asked_again(server: Server, client: Client) -> None:
    server.answers = [(404, {"code": "not_found", "detail": "no such job"}), OK]
    with pytest.raises(ApiError, match="no such job"):
        client.get_job("job_1")
    assert len(server.requests) == 1


def test_a_job_is_sent_again_with_the_same_idempotency_key(server: Server, client: Client) -> None:
    server.answers = [None, BUSY, (409, {"code": "idempotency_conflict", "detail": "x"})]
    with pytest.raises(ApiError):
        client.create_job("s3://photos/", ["star"])
    keys = {headers["Idempotency-Key"] for _, _, headers in server.requests}
    assert len(server.requests) == 3
    assert len(keys) == 1


@pytest.mark.parametrize("answer", [None, BUSY])
def test_what_may_have_happened_is_not_sent_twice(
    server: Server, client: Client, answer: Answer
) -> None:
    server.answers = [answer, DATASET]
    with pytest.raises((ApiError, ServiceUnreachableError)):
        client.create_dataset("x")
    assert len(server.requests) == 1


def test_after_some_attempts_the_last_answer_stands(server: Server, client: Client) -> None:
    server.answers = [BUSY] * (ATTEMPTS + 1)
    with pytest.raises(ApiError) as busy:
        client.models()
    assert busy.value.status == 503
    assert len(server.requests) == ATTEMPTS


def test_the_key_goes_to_the_service_and_not_to_a_links_host(
    server: Server, client: Client
) -> None:
    server.answers = [OK, OK]
    client.health()
    client.download(f"http://127.0.0.1:{server.server_port}/part")
    asked, linked = (headers for _, _, headers in server.requests)
    assert asked["Authorization"] == "Bearer mm_key"
    assert "Authorization" not in linked


def test_an_address_where_nobody_answers_is_named() -> None:
    with (
        Client("http://127.0.0.1:1", "mm_key") as nobody,
        pytest.raises(ServiceUnreachableError, match=r"127\.0\.0\.1:1"),
    ):
        nobody.health()


def test_ids_cannot_leave_their_place_in_the_address(server: Server, client: Client) -> None:
    server.answers = [(404, {"code": "not_found", "detail": "x"})]
    with pytest.raises(ApiError):
        client.get_job("../keys?x")
    assert server.requests[0][1] == "/v1/jobs/..%2Fkeys%3Fx"


def test_who_asks_too_often_comes_back_when_the_service_says(
    server: Server, client: Client
) -> None:
    server.answers = [LIMITED, OK]
    began = time.monotonic()
    assert client.health()
    assert time.monotonic() - began >= 1
    assert len(server.requests) == 2


def test_a_job_that_is_refused_for_a_limit_is_not_sent_again(
    server: Server, client: Client
) -> None:
    full = (429, {"code": "too_many_jobs", "detail": "x"}, {"Retry-After": "1"})
    server.answers = [full, OK]
    with pytest.raises(ApiError) as refused:
        client.create_job("s3://photos/", ["star"])
    assert (refused.value.status, refused.value.retry_after_seconds) == (429, 1)
    assert len(server.requests) == 1


def test_a_limit_is_not_waited_for_longer_than_is_reasonable() -> None:
    def pause_seconds(headers: dict[str, str]) -> float:
        state = RetryCallState(Retrying(), fn=None, args=(), kwargs={})
        problem = {"code": "too_many_requests", "detail": "x"}
        refused = _api_error(httpx.Response(429, headers=headers, json=problem))
        state.set_exception((ApiError, refused, None))
        return _pause_seconds(state)

    assert pause_seconds({"Retry-After": "7"}) == 7
    assert pause_seconds({"Retry-After": "86400"}) == 60
    assert pause_seconds({"Retry-After": "Fri, 31 Dec 2027 23:59:59 GMT"}) <= 5
    assert pause_seconds({}) <= 5


def test_a_dataset_is_asked_to_go_again_where_the_answer_was_lost(
    server: Server, client: Client
) -> None:
    server.answers = [None, (200, {})]
    client.delete_dataset("ds_1")
    assert [request[:2] for request in server.requests] == [("DELETE", "/v1/datasets/ds_1")] * 2
