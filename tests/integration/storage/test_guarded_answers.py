"""What servers answer, and what they are told."""

from pathlib import Path

import pytest

from storage.guarded_fetch import FetchFailure
from tests.canary import Canary
from tests.integration.storage.fetchers import LIMIT, OK, Make, failure, ok
from tests.integration.storage.web_server import Page, Request, at_most, serving


@pytest.mark.parametrize(
    ("status", "kind", "requests"),
    [
        (404, FetchFailure.NOT_FOUND, 1),
        (410, FetchFailure.NOT_FOUND, 1),
        (401, FetchFailure.FORBIDDEN, 1),
        (403, FetchFailure.FORBIDDEN, 1),
        (400, FetchFailure.REJECTED, 1),
        (206, FetchFailure.REJECTED, 1),
        (429, FetchFailure.OVERLOADED, 3),
        (503, FetchFailure.OVERLOADED, 3),
    ],
)
def test_a_status_tells_what_is_wrong_and_whether_to_try_again(
    fetcher_for: Make, status: int, kind: FetchFailure, requests: int
) -> None:
    with serving(lambda request: request.answer(status, OK)) as server:
        assert failure(fetcher_for(server.host), server.url) is kind
        assert len(server.seen) == requests


def _broken_off(request: Request) -> None:
    request.answer(200, OK, Content_Length="500")
    request.hang_up()


def _without_answer(request: Request) -> None:
    request.hang_up()


@pytest.mark.parametrize("bad", [_broken_off, _without_answer])
def test_an_answer_that_breaks_off_is_asked_for_again(fetcher_for: Make, bad: Page) -> None:
    pages = iter([bad, bad, ok])

    def page(request: Request) -> None:
        next(pages)(request)

    with serving(page) as server:
        assert fetcher_for(server.host).get(server.url, max_bytes=LIMIT) == OK


def test_connections_are_used_again(fetcher_for: Make) -> None:
    with serving(ok) as server:
        fetcher = fetcher_for(server.host)
        for _ in range(5):
            fetcher.get(server.url, max_bytes=LIMIT)
        assert server.connections == 1


def test_nothing_of_ours_is_told_to_the_server(
    fetcher_for: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[dict[str, str]] = []
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def page(request: Request) -> None:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        request.answer(200, OK, Set_Cookie="a=b")

    with serving(page) as server:
        fetcher = fetcher_for(server.host)
        for _ in range(2):
            fetcher.get(server.url, max_bytes=LIMIT)
        expected = {
            "host": server.host,
            "user-agent": "maskmill",
            "accept": "*/*",
            "accept-encoding": "identity",
        }
        assert seen == [expected, expected]


def test_proxies_of_the_environment_take_no_part(
    fetcher_for: Make, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    with serving(ok) as server:
        assert fetcher_for(server.host).get(server.url, max_bytes=LIMIT) == OK


def test_a_body_of_exactly_the_limit_is_read(fetcher_for: Make) -> None:
    with serving(lambda request: request.answer(200, bytes(LIMIT))) as server:
        assert fetcher_for(server.host).get(server.url, max_bytes=LIMIT) == bytes(LIMIT)


def test_a_declared_size_over_the_limit_is_refused_before_the_body(fetcher_for: Make) -> None:
    def page(request: Request) -> None:
        request.answer(200, Content_Length=str(10**12))
        request.server.over.wait(5)

    with serving(page) as server, at_most(2):
        assert failure(fetcher_for(server.host), server.url) is FetchFailure.TOO_LARGE


def test_an_endless_body_is_cut_at_the_limit(fetcher_for: Make) -> None:
    def page(request: Request) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        request.drip(bytes(10_000), every_seconds=0, times=10**9)

    with serving(page) as server, at_most(2):
        assert failure(fetcher_for(server.host), server.url) is FetchFailure.TOO_LARGE


def test_a_compressed_answer_is_rejected_unread(fetcher_for: Make) -> None:
    with serving(lambda request: request.answer(200, OK, Content_Encoding="gzip")) as server:
        assert failure(fetcher_for(server.host), server.url) is FetchFailure.REJECTED
