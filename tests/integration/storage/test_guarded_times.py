"""Servers that waste our time, and their certificates."""

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from storage.guarded_fetch import FetchFailure
from tests.integration.storage.fetchers import LIMIT, OK, Make, failure, ok
from tests.integration.storage.web_server import Page, Request, WebServer, at_most, serving


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
        assert failure(fetcher, server.url) is FetchFailure.TIMEOUT


def test_a_call_may_have_a_time_limit_of_its_own(fetcher_for: Make) -> None:
    with serving(_silent) as server, at_most(2):
        fetcher = fetcher_for(server.host, timeout_seconds=30)
        assert failure(fetcher, server.url, timeout_seconds=0.3) is FetchFailure.TIMEOUT


def test_retries_stay_within_the_time(fetcher_for: Make) -> None:
    with serving(lambda request: request.answer(503)) as server, at_most(2):
        fetcher = fetcher_for(server.host, timeout_seconds=0.3)
        assert failure(fetcher, server.url) is FetchFailure.OVERLOADED


def test_a_name_server_that_does_not_answer_is_not_waited_for(fetcher_for: Make) -> None:
    over = threading.Event()

    def slow(host: str) -> list[str]:
        over.wait(5)
        return ["8.8.8.8"]

    try:
        with at_most(2):
            fetcher = fetcher_for(resolve=slow, timeout_seconds=0.3)
            assert failure(fetcher, "http://slow.example/") is FetchFailure.TIMEOUT
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
    with serving(ok) as server:
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
        assert failure(fetcher, wrong) is FetchFailure.UNAVAILABLE
    assert len(tls_server.seen) == 1


def test_a_handshake_that_never_ends_is_left(fetcher_for: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, at_most(2):
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        fetcher = fetcher_for(host, timeout_seconds=0.3)
        assert failure(fetcher, f"https://{host}/") is FetchFailure.TIMEOUT
