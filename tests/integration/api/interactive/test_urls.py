"""Images by address: the policy, and nothing that is not public ever reached."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from storage.guarded_fetch import FetchRefused, GuardedFetcher
from storage.settings import Settings
from tests.canary import Canary
from tests.integration.api.interactive.conftest import PIXEL, PNG, Interactive, fetching, opened
from tests.integration.storage.web_server import Request, WebServer, at_most, serving

PATH = "/sam3/embed_image"
NOT_HTTPS = (
    "Providing images via non https:// URL is not supported in this configuration of `inference`."
)
NO_DOMAIN = (
    "Providing images via URL without FQDN is not supported in this configuration of `inference`."
)
INVALID = "Provided image URL is invalid"
NOT_ALLOWED = "URL points to a network destination that is not allowed."
NOT_FETCHED = "Data pointed by URL could not be decoded into image."

REFUSED = {
    "http://example.com/a.jpg": NOT_HTTPS,
    "ftp://example.com/a.jpg": NOT_HTTPS,
    "file:///etc/passwd": NOT_HTTPS,
    "gopher://127.0.0.1:CANARY/_x": NOT_HTTPS,
    "http://127.0.0.1:CANARY/": NOT_HTTPS,
    "https://127.0.0.1:CANARY/": NO_DOMAIN,
    "https://127.1:CANARY/": NO_DOMAIN,
    "https://2130706433:CANARY/": NO_DOMAIN,
    "https://0x7f000001:CANARY/": NO_DOMAIN,
    "https://0x7f.0.0.0x1:CANARY/": NO_DOMAIN,
    "https://0177.0.0.1:CANARY/": INVALID,
    "https://[::1]:CANARY/": NO_DOMAIN,
    "https://[::ffff:127.0.0.1]:CANARY/": NO_DOMAIN,
    "https://[64:ff9b::7f00:1]:CANARY/": NO_DOMAIN,
    "https://8.8.8.8/a.jpg": NO_DOMAIN,
    "https://169.254.169.254/latest/meta-data/": NO_DOMAIN,
    "https://localhost:CANARY/": NO_DOMAIN,
    "https://localhost.:CANARY/": NO_DOMAIN,
    "https://a.localhost:CANARY/": NO_DOMAIN,
    "https://metadata.google.internal/": NO_DOMAIN,
    "https://printer.local/": NO_DOMAIN,
    "https://nothing.invalid/a.jpg": NO_DOMAIN,
    "https://intranet/a.jpg": NO_DOMAIN,
    "": INVALID,
    "not an address": INVALID,
    "//example.com/a.jpg": INVALID,
    "https://": INVALID,
    "https://example.com\\@127.0.0.1:CANARY/": INVALID,
    "https://user:word@example.com/": INVALID,
    "https://example.com:99999999/": INVALID,
    "https://exa\x00mple.com/": INVALID,
}


def refusal(interactive: Interactive, url: Any) -> str:
    with at_most(10):
        answer = interactive.post(PATH, {"image": {"type": "url", "value": url}})
    assert answer.status_code == 400, answer.text
    return str(answer.json()["message"]).removeprefix("Could not load input image. Cause: ")


@pytest.mark.parametrize("url", REFUSED)
def test_an_address_is_refused_before_anything_is_asked(
    interactive: Interactive, canary: Canary, url: str
) -> None:
    assert refusal(interactive, url.replace("CANARY", str(canary.port))) == REFUSED[url]


@pytest.mark.parametrize("value", [None, 5, ["https://example.com"]])
def test_what_is_no_text_is_no_address(interactive: Interactive, value: Any) -> None:
    assert refusal(interactive, value) == INVALID


PRIVATE = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00::1"]


@pytest.mark.parametrize("addresses", [[a] for a in PRIVATE] + [["8.8.8.8", "127.0.0.1"]])
def test_a_public_name_of_a_private_address_is_not_followed(
    interactive: Interactive, canary: Canary, addresses: Sequence[str]
) -> None:
    with fetching(interactive, resolve=lambda _host: addresses):
        assert refusal(interactive, f"https://photos.example.org:{canary.port}/") == NOT_ALLOWED


def test_a_name_cannot_change_its_mind_after_the_check(
    interactive: Interactive, canary: Canary
) -> None:
    """Were it asked twice, the second answer would lead to the canary."""
    answers = iter([["203.0.113.1", "8.8.8.8"], ["127.0.0.1"], ["127.0.0.1"], ["127.0.0.1"]])
    with fetching(interactive, resolve=lambda _host: next(answers)):
        url = f"https://photos.example.org:{canary.port}/"
        assert refusal(interactive, url) in {NOT_ALLOWED, NOT_FETCHED}


def test_a_name_that_does_not_resolve_is_not_fetched(interactive: Interactive) -> None:
    def resolve(_host: str) -> Sequence[str]:
        raise OSError

    with fetching(interactive, resolve=resolve):
        assert refusal(interactive, "https://photos.example.org/a.jpg") == NOT_FETCHED


@contextmanager
def pages(interactive: Interactive, *, seconds: float = 2) -> Iterator[WebServer]:
    """A web server that the operator allows, and http with it."""

    def page(request: Request) -> None:
        path, _, rest = request.path[1:].partition("/")
        if path == "image":
            request.answer(200, PNG)
        elif path == "to":
            request.answer(302, Location=rest)
        elif path == "large":
            request.answer(200, bytes(200_001))
        elif path == "endless":
            request.answer(200, Content_Length=str(10**9))
            request.drip(bytes(1000), every_seconds=0.001, times=10**6)
        elif path == "slow":
            request.answer(200, Content_Length="1000")
            request.drip(b"x", every_seconds=0.5, times=1000)
        else:
            request.answer(int(path))

    with (
        serving(page) as server,
        fetching(
            interactive, allowed_hosts=[server.host], allow_http_images=True, fetch_seconds=seconds
        ),
    ):
        yield server


def test_an_allowed_address_is_fetched_and_marked_as_such(interactive: Interactive) -> None:
    with pages(interactive) as server:
        for path in ("/image", f"/to/{server.url}/image", "/to//image"):
            image = {"type": "URL", "value": server.url + path}
            answer = interactive.post(PATH, {"image": image})
            assert answer.status_code == 200, answer.text
            assert interactive.files() == (PNG,)
            assert interactive.asked().image.origin == "url"  # type: ignore[union-attr]


def test_redirects_are_held_to_the_same_rules(interactive: Interactive, canary: Canary) -> None:
    targets = (
        f"http://127.0.0.1:{canary.port}/",
        f"http://[::1]:{canary.port}/",
        f"http://localhost:{canary.port}/",
        "file:///etc/passwd",
        "gopher://example.com/",
    )
    with pages(interactive) as server:
        for target in targets:
            assert refusal(interactive, f"{server.url}/to/{target}") == NOT_ALLOWED, target
        loop = "/to/" * 4 + f"{server.url}/image"
        assert refusal(interactive, server.url + loop) == NOT_ALLOWED


def test_redirects_from_https_lead_to_https_only(canary: Canary) -> None:
    fetcher = GuardedFetcher([f"127.0.0.1:{canary.port}"], schemes={"https"})
    with closing(fetcher), pytest.raises(FetchRefused, match="only https are fetched"):
        fetcher.get(f"http://127.0.0.1:{canary.port}/", max_bytes=1)


def test_endless_slow_and_large_bodies_end_in_time(interactive: Interactive) -> None:
    with pages(interactive) as server:
        assert refusal(interactive, f"{server.url}/large") == "An image may have 200000 bytes."
        assert refusal(interactive, f"{server.url}/endless") == "An image may have 200000 bytes."
        assert refusal(interactive, f"{server.url}/slow") == NOT_FETCHED


@pytest.mark.parametrize("status", [204, 401, 404, 500])
def test_other_answers_are_no_images(interactive: Interactive, status: int) -> None:
    with pages(interactive) as server:
        assert refusal(interactive, f"{server.url}/{status}") == NOT_FETCHED


def test_slow_hosts_hold_up_nothing_but_fetches_of_the_same_key(interactive: Interactive) -> None:
    """More slow fetches at once than the whole pool has threads."""
    with pages(interactive, seconds=6) as server, ThreadPoolExecutor(42) as threads:
        slow = [threads.submit(refusal, interactive, f"{server.url}/slow") for _ in range(40)]
        with at_most(4):
            assert interactive.post(PATH, {"image": PIXEL}).status_code == 200
            image = {"type": "url", "value": f"{server.url}/image"}
            url = f"{PATH}?api_key={interactive.bobs_key}"
            assert interactive.client.post(url, json={"image": image}).status_code == 200
        assert {future.result() for future in slow} == {NOT_FETCHED}


def test_http_is_refused_unless_the_operator_allows_it(interactive_settings: Settings) -> None:
    with (
        serving(lambda request: request.answer(200, PNG)) as server,
        opened(
            interactive_settings.model_copy(
                update={
                    "allowed_hosts": [server.host],
                    "signing_secret": SecretStr("another"),
                }
            )
        ) as interactive,
    ):
        assert refusal(interactive, server.url) == NOT_HTTPS
        assert server.seen == []
