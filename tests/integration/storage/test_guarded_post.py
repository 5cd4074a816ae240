"""Posting to an address that a user wrote. What holds for fetching is in test_guarded_fetch."""

import pytest

from storage.guarded_fetch import FetchFailed, FetchFailure, FetchRefused
from storage.guarded_network import resolve_name
from tests.canary import Canary
from tests.integration.storage.fetchers import Make
from tests.integration.storage.web_server import Request, at_most, serving

BODY = b'{"a": 1}'


def test_a_body_is_posted_with_its_headers_and_the_status_comes_back(fetcher_for: Make) -> None:
    came: list[tuple[str, str | None, bytes]] = []

    def page(request: Request) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        came.append((request.command, request.headers["X-Mine"], body))
        request.answer(418, b"short and stout")

    with serving(page) as server:
        fetcher = fetcher_for(server.host)
        for _ in range(2):
            status = fetcher.post(server.url, BODY, headers={"X-Mine": "1"}, timeout_seconds=5)
            assert status == 418
        assert came == [("POST", "1", BODY)] * 2
        assert server.connections == 1  # a short answer is read, and the connection used again


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(fetcher_for: Make, canary: Canary, status: int) -> None:
    def page(request: Request) -> None:
        request.rfile.read(int(request.headers["Content-Length"]))
        request.answer(status, Location=f"http://127.0.0.1:{canary.port}/")

    with serving(page) as server:
        fetcher = fetcher_for("127.0.0.1")
        assert fetcher.post(server.url, BODY, headers={}, timeout_seconds=5) == status
        assert server.seen == ["/"]


def test_a_long_or_slow_answer_is_left_after_its_status(fetcher_for: Make) -> None:
    def page(request: Request) -> None:
        request.send_response(200)
        request.end_headers()
        request.drip(b"x" * (2000 if request.path == "/long" else 1), every_seconds=0.02, times=500)

    with serving(page) as server, at_most(4):
        fetcher = fetcher_for(server.host)
        for path in ("/long", "/slow"):
            url = server.url + path
            assert fetcher.post(url, BODY, headers={}, timeout_seconds=1) == 200


def test_a_failure_is_not_tried_again(fetcher_for: Make) -> None:
    with serving(Request.hang_up) as server:
        with pytest.raises(FetchFailed) as caught:
            fetcher_for(server.host).post(server.url, BODY, headers={}, timeout_seconds=5)
        assert caught.value.kind is FetchFailure.UNAVAILABLE
        assert server.seen == ["/"]


def test_silence_ends_with_the_time_limit(fetcher_for: Make) -> None:
    with serving(lambda request: request.server.over.wait(20) and None) as server, at_most(3):
        with pytest.raises(FetchFailed) as caught:
            fetcher_for(server.host).post(server.url, BODY, headers={}, timeout_seconds=0.3)
        assert caught.value.kind is FetchFailure.TIMEOUT


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "name.example"])
def test_addresses_that_are_not_public_are_refused(
    fetcher_for: Make, canary: Canary, host: str
) -> None:
    def resolve(name: str) -> list[str]:
        return ["127.0.0.1"] if name == "name.example" else resolve_name(name)

    with pytest.raises(FetchRefused):
        fetcher_for(resolve=resolve).post(
            f"http://{host}:{canary.port}/", BODY, headers={}, timeout_seconds=5
        )
