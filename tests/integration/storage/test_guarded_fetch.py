"""Server-side request forgery, and servers that waste our time. The canary must see nothing."""

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from storage.guarded_fetch import FetchFailed, FetchFailure, FetchRefused, GuardedFetcher
from storage.guarded_network import Resolve, resolve_name
from tests.canary import Canary
from tests.integration.storage.web_server import Page, Request, WebServer, at_most, serving

LIMIT = 1000
OK = b"the image"


@pytest.fixture
def fetcher_for(request: pytest.FixtureRequest) -> Callable[..., GuardedFetcher]:
    def make(*allowed: str, resolve: Resolve = resolve_name, **limits: float) -> GuardedFetcher:
        fetcher = GuardedFetcher(allowed, resolve=resolve, **limits)  # type: ignore[arg-type]
        request.addfinalizer(fetcher.close)
        return fetcher

    return make


Make = Callable[..., GuardedFetcher]


def _ok(request: Request) -> None:
    request.answer(200, OK)


def _failure(fetcher: GuardedFetcher, url: str, **limits: float) -> FetchFailure:
    with pytest.raises(FetchFailed) as caught:
        fetcher.get(url, max_bytes=LIMIT, **limits)
    return caught.value.kind


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
    with serving(_ok) as server:
        fetcher = fetcher_for("only.invalid", resolve=lambda host: ["127.0.0.1"])
        url = f"http://only.invalid:{server.server_port}/a"
        assert fetcher.get(url, max_bytes=LIMIT) == OK


def test_the_next_address_is_tried_when_the_first_is_dead(fetcher_for: Make) -> None:
    with serving(_ok) as server:
        fetcher = fetcher_for("two.invalid", resolve=lambda host: ["127.0.0.2", "127.0.0.1"])
        url = f"http://two.invalid:{server.server_port}/"
        assert fetcher.get(url, max_bytes=LIMIT) == OK


def test_a_name_without_an_address_is_unavailable(fetcher_for: Make) -> None:
    def nothing(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    url = "http://nowhere.example/"
    assert _failure(fetcher_for(resolve=nothing), url) is FetchFailure.UNAVAILABLE
    assert _failure(fetcher_for(resolve=lambda host: []), url) is FetchFailure.UNAVAILABLE


def test_a_host_that_the_operator_named_is_fetched(fetcher_for: Make) -> None:
    with serving(_ok) as server:
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
    with serving(_ok) as server, pytest.raises(FetchRefused):
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
        assert _failure(fetcher_for(server.host), server.url) is FetchFailure.REJECTED


@pytest.mark.parametrize(
    ("status", "kind", "requests"),
    [
        (404, FetchFailure.NOT_FOUND, 1),
        (410, FetchFailure.NOT_FOUND, 1),
        (401, FetchFailure.FORBIDDEN, 1),
        (403, FetchFailure.FORBIDDEN, 1),
        (400, FetchFailure.REJECTED, 1),
        (206, FetchFailure.REJECTED, 1),
        (429, FetchFailure.UNAVAILABLE, 3),
        (503, FetchFailure.UNAVAILABLE, 3),
    ],
)
def test_a_status_tells_what_is_wrong_and_whether_to_try_again(
    fetcher_for: Make, status: int, kind: FetchFailure, requests: int
) -> None:
    with serving(lambda request: request.answer(status, OK)) as server:
        assert _failure(fetcher_for(server.host), server.url) is kind
        assert len(server.seen) == requests


def _broken_off(request: Request) -> None:
    request.answer(200, OK, Content_Length="500")
    request.hang_up()


def _without_answer(request: Request) -> None:
    request.hang_up()


@pytest.mark.parametrize("bad", [_broken_off, _without_answer])
def test_an_answer_that_breaks_off_is_asked_for_again(fetcher_for: Make, bad: Page) -> None:
    pages = iter([bad, bad, _ok])

    def page(request: Request) -> None:
        next(pages)(request)

    with serving(page) as server:
        assert fetcher_for(server.host).get(server.url, max_bytes=LIMIT) == OK


def test_connections_are_used_again(fetcher_for: Make) -> None:
    with serving(_ok) as server:
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
    with serving(_ok) as server:
        assert fetcher_for(server.host).get(server.url, max_bytes=LIMIT) == OK


def test_a_body_of_exactly_the_limit_is_read(fetcher_for: Make) -> None:
    with serving(lambda request: request.answer(200, bytes(LIMIT))) as server:
        assert fetcher_for(server.host).get(server.url, max_bytes=LIMIT) == bytes(LIMIT)


def test_a_declared_size_over_the_limit_is_refused_before_the_body(fetcher_for: Make) -> None:
    def page(request: Request) -> None:
        request.answer(200, Content_Length=str(10**12))
        request.server.over.wait(5)

    with serving(page) as server, at_most(2):
        assert _failure(fetcher_for(server.host), server.url) is FetchFailure.TOO_LARGE


def test_an_endless_body_is_cut_at_the_limit(fetcher_for: Make) -> None:
    def page(request: Request) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        request.drip(bytes(10_000), every_seconds=0, times=10**9)

    with serving(page) as server, at_most(2):
        assert _failure(fetcher_for(server.host), server.url) is FetchFailure.TOO_LARGE


def test_a_compressed_answer_is_rejected_unread(fetcher_for: Make) -> None:
    with serving(lambda request: request.answer(200, OK, Content_Encoding="gzip")) as server:
        assert _failure(fetcher_for(server.host), server.url) is FetchFailure.REJECTED


def _dripping_body(request: Request) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "900")
    request.end_headers()
    request.drip(b"x", every_seconds=0.05, times=200)


def _dripping_headers(request: Request) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    request.drip(b"X-Header: x\r\n", every_seconds=0.05, times=200)


def _continuing_for_ever(request: Request) -> None:
    request.drip(b"HTTP/1.1 100 Continue\r\n\r\n", every_seconds=0.05, times=200)


def _silent(request: Request) -> None:
    request.server.over.wait(5)
    request.hang_up()


def _slow_redirects(request: Request) -> None:
    request.server.over.wait(0.12)
    request.answer(302, Location="/again")


@pytest.mark.parametrize(
    "page",
    [_dripping_body, _dripping_headers, _continuing_for_ever, _silent, _slow_redirects],
)
def test_the_whole_fetch_ends_in_its_time(fetcher_for: Make, page: Page) -> None:
    with serving(page) as server, at_most(2):
        fetcher = fetcher_for(server.host, timeout_seconds=0.3)
        assert _failure(fetcher, server.url) is FetchFailure.TIMEOUT


def test_a_call_may_have_a_time_limit_of_its_own(fetcher_for: Make) -> None:
    with serving(_silent) as server, at_most(2):
        fetcher = fetcher_for(server.host, timeout_seconds=30)
        assert _failure(fetcher, server.url, timeout_seconds=0.3) is FetchFailure.TIMEOUT


def test_retries_stay_within_the_time(fetcher_for: Make) -> None:
    with serving(lambda request: request.answer(503)) as server, at_most(2):
        fetcher = fetcher_for(server.host, timeout_seconds=0.3)
        assert _failure(fetcher, server.url) is FetchFailure.UNAVAILABLE


def test_a_name_server_that_does_not_answer_is_not_waited_for(fetcher_for: Make) -> None:
    over = threading.Event()

    def slow(host: str) -> list[str]:
        over.wait(5)
        return ["8.8.8.8"]

    try:
        with at_most(2):
            fetcher = fetcher_for(resolve=slow, timeout_seconds=0.3)
            assert _failure(fetcher, "http://slow.example/") is FetchFailure.TIMEOUT
    finally:
        over.set()


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for `name`, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """https for images.example, trusted by SSL_CERT_FILE."""
    certificate, key = _certificate(tmp_path, "images.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(_ok) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server


def test_certificates_are_checked_against_the_name_not_the_address(
    fetcher_for: Make, tls_server: WebServer
) -> None:
    fetcher = fetcher_for(
        "images.example", "other.example", "127.0.0.1", resolve=lambda host: ["127.0.0.1"]
    )
    url = f"https://images.example:{tls_server.server_port}/"
    assert fetcher.get(url, max_bytes=LIMIT) == OK
    for name in ("other.example", "127.0.0.1"):
        wrong = f"https://{name}:{tls_server.server_port}/"
        assert _failure(fetcher, wrong) is FetchFailure.UNAVAILABLE
    assert len(tls_server.seen) == 1


def test_a_handshake_that_never_ends_is_left(fetcher_for: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, at_most(2):
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        fetcher = fetcher_for(host, timeout_seconds=0.3)
        assert _failure(fetcher, f"https://{host}/") is FetchFailure.TIMEOUT


def test_a_host_that_is_broken_idna_is_refused(fetcher_for: Make) -> None:
    with pytest.raises(FetchRefused, match="not an address"):
        fetcher_for().get("http://xn--a/x.jpg", max_bytes=LIMIT)


def test_a_redirect_to_a_host_that_is_broken_idna_is_refused(fetcher_for: Make) -> None:
    def redirect(request: Request) -> None:
        request.answer(302, Location="http://xn--a/x.jpg")

    with serving(redirect) as server, pytest.raises(FetchRefused, match="not an address"):
        fetcher_for(server.host).get(f"{server.url}/", max_bytes=LIMIT)
