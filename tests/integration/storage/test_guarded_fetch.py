"""Server-side request forgery. The canary must see nothing."""

import socket

import httpcore
import pytest

from storage.guarded_fetch import FetchFailed, FetchFailure, FetchRefused, GuardedFetcher
from tests.canary import Canary
from tests.integration.storage.fetchers import LIMIT, OK, Make, failure, ok
from tests.integration.storage.web_server import Request, at_most, serving


def test_the_canary_can_sing(canary: Canary) -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as client:
            client.connect((address, canary.port))
        assert canary.touched()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.0.1.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "0.0.0.0",
        "0",
        "localhost",
        "LOCALHOST",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "100.100.100.200",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_addresses_that_are_not_public_are_refused(
    fetcher_for: Make, canary: Canary, scheme: str, host: str
) -> None:
    # Some of these are no addresses at all to some resolvers: then nothing is found.
    with at_most(2), pytest.raises((FetchRefused, FetchFailed)) as caught:
        fetcher_for().get(f"{scheme}://{host}:{canary.port}/", max_bytes=LIMIT)
    if isinstance(caught.value, FetchFailed):
        assert "does not resolve" in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "localhost"])
def test_loopback_by_its_common_names_is_refused_as_such(
    fetcher_for: Make, canary: Canary, host: str
) -> None:
    with pytest.raises(FetchRefused, match="not a public address"):
        fetcher_for().get(f"http://{host}:{canary.port}/", max_bytes=LIMIT)


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], ["169.254.169.254"], ["8.8.8.8", "127.0.0.1"], ["not an address"]],
)
def test_a_name_with_any_address_that_is_not_public_is_refused(
    fetcher_for: Make, canary: Canary, addresses: list[str]
) -> None:
    fetcher = fetcher_for(resolve=lambda host: addresses)
    with pytest.raises(FetchRefused, match=r"public\.example is not a public address"):
        fetcher.get(f"http://public.example:{canary.port}/", max_bytes=LIMIT)


def test_a_name_cannot_change_its_address_after_the_check(
    fetcher_for: Make, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first connection is stopped here, so that the test stays off the real network."""
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    connected: list[str] = []

    def unreachable(self: object, host: str, *_: object, **__: object) -> None:
        connected.append(host)
        raise httpcore.ConnectError("no route")

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", unreachable)
    fetcher = fetcher_for(resolve=lambda host: next(answers))
    with pytest.raises(FetchRefused):  # at the second try, by the check of that try
        fetcher.get(f"http://rebind.example:{canary.port}/", max_bytes=LIMIT)
    assert connected == ["93.184.216.34"]


def test_the_connection_goes_to_the_address_that_was_resolved(fetcher_for: Make) -> None:
    """No second look-up: the name does not exist outside the injected resolver."""
    with serving(ok) as server:
        fetcher = fetcher_for("only.invalid", resolve=lambda host: ["127.0.0.1"])
        url = f"http://only.invalid:{server.server_port}/a"
        assert fetcher.get(url, max_bytes=LIMIT) == OK


def test_the_next_address_is_tried_when_the_first_is_dead(fetcher_for: Make) -> None:
    with serving(ok) as server:
        fetcher = fetcher_for("two.invalid", resolve=lambda host: ["127.0.0.2", "127.0.0.1"])
        url = f"http://two.invalid:{server.server_port}/"
        assert fetcher.get(url, max_bytes=LIMIT) == OK


def test_a_name_without_an_address_is_unavailable(fetcher_for: Make) -> None:
    def nothing(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    url = "http://nowhere.example/"
    assert failure(fetcher_for(resolve=nothing), url) is FetchFailure.UNAVAILABLE
    assert failure(fetcher_for(resolve=lambda host: []), url) is FetchFailure.UNAVAILABLE


def test_a_host_that_the_operator_named_is_fetched(fetcher_for: Make) -> None:
    with serving(ok) as server:
        for allowed in (server.host, "127.0.0.1"):
            assert fetcher_for(allowed).get(f"{server.url}/a?b=c#d", max_bytes=LIMIT) == OK
        assert server.seen == ["/a?b=c", "/a?b=c"]


@pytest.mark.parametrize("other", ["localhost", "127.0.0.2", "[::1]", "127.1"])
def test_naming_a_host_allows_no_other_name_of_the_machine(
    fetcher_for: Make, canary: Canary, other: str
) -> None:
    fetcher = fetcher_for(f"127.0.0.1:{canary.port}")
    with pytest.raises(FetchRefused):
        fetcher.get(f"http://{other}:{canary.port}/", max_bytes=LIMIT)


def test_naming_a_host_with_a_port_allows_no_other_port(fetcher_for: Make, canary: Canary) -> None:
    with serving(ok) as server, pytest.raises(FetchRefused):
        fetcher_for(server.host).get(f"http://127.0.0.1:{canary.port}/", max_bytes=LIMIT)


@pytest.mark.parametrize("entry", ["::1", "host:port", "host:70000"])
def test_an_entry_that_names_no_host_is_an_error_at_the_start(entry: str) -> None:
    with pytest.raises(ValueError, match="allowed host"):
        GuardedFetcher([entry])


@pytest.mark.parametrize(
    "url",
    [
        "ftp://8.8.8.8/",
        "file:///etc/passwd",
        "gopher://8.8.8.8/",
        "s3://bucket/key",
        "unix:/var/run/x",
        "//8.8.8.8/",
        "8.8.8.8",
        "",
        "http:///x",
        "http:8.8.8.8",
        "http://.example.com/",
        "http://user@127.0.0.1/",
        "http://user:password@8.8.8.8/",
        "http://8.8.8.8\\@127.0.0.1/",
        "http://127.0.0.1\n/",
        "http://[::1/",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:-1/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:65536/",
    ],
)
def test_anything_but_a_plain_http_address_is_refused(fetcher_for: Make, url: str) -> None:
    with pytest.raises(FetchRefused):
        fetcher_for("127.0.0.1").get(url, max_bytes=LIMIT)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_what_is_not_public_is_refused(
    fetcher_for: Make, canary: Canary, status: int
) -> None:
    def page(request: Request) -> None:
        request.answer(status, Location=f"http://127.0.0.1:{canary.port}/")

    with serving(page) as server, pytest.raises(FetchRefused, match="not a public"):
        fetcher_for(server.host).get(server.url, max_bytes=LIMIT)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "http://user@127.0.0.1/", "ftp://127.0.0.1/"]
)
def test_a_redirect_to_another_scheme_is_refused(fetcher_for: Make, location: str) -> None:
    with (
        serving(lambda request: request.answer(302, Location=location)) as server,
        pytest.raises(FetchRefused),
    ):
        fetcher_for("127.0.0.1").get(server.url, max_bytes=LIMIT)
    assert server.seen == ["/"]


def _counting_down(request: Request) -> None:
    """/3 leads to /2, that to /1, that to /0, and there is the image."""
    left = int(request.path.rpartition("/")[2])
    if left:
        request.answer(302, b"moved", Location=str(left - 1))
    else:
        request.answer(200, OK)


def test_three_redirects_are_followed_and_no_fourth(fetcher_for: Make) -> None:
    with serving(_counting_down) as server:
        fetcher = fetcher_for(server.host)
        assert fetcher.get(f"{server.url}/in/3", max_bytes=LIMIT) == OK
        assert server.seen == ["/in/3", "/in/2", "/in/1", "/in/0"]
        server.seen.clear()
        with pytest.raises(FetchRefused, match="more than 3 redirects"):
            fetcher.get(f"{server.url}/in/9", max_bytes=LIMIT)
        assert server.seen == ["/in/9", "/in/8", "/in/7", "/in/6"]


def test_a_redirect_without_a_target_is_rejected(fetcher_for: Make) -> None:
    with serving(lambda request: request.answer(302)) as server:
        assert failure(fetcher_for(server.host), server.url) is FetchFailure.REJECTED


def test_a_host_that_is_broken_idna_is_refused(fetcher_for: Make) -> None:
    with pytest.raises(FetchRefused, match="not an address"):
        fetcher_for().get("http://xn--a/x.jpg", max_bytes=LIMIT)


def test_a_redirect_to_a_host_that_is_broken_idna_is_refused(fetcher_for: Make) -> None:
    def redirect(request: Request) -> None:
        request.answer(302, Location="http://xn--a/x.jpg")

    with serving(redirect) as server, pytest.raises(FetchRefused, match="not an address"):
        fetcher_for(server.host).get(f"{server.url}/", max_bytes=LIMIT)
