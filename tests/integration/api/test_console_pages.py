"""The page at `/` and its files."""

import re

import pytest

from api.console.pages import HEADERS
from tests.integration.api.conftest import Api

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def test_browsers_get_the_page_and_all_others_what_they_got(api: Api) -> None:
    shown = api.client.get("/", headers={"Accept": BROWSER})
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert shown.text.startswith("<!doctype html>")
    for accept in ("*/*", "application/json", ""):
        answer = api.client.get("/", headers={"Accept": accept})
        assert answer.json()["service"] == "maskmill", accept
        assert answer.headers["vary"] == "Accept"
    assert shown.headers["vary"] == "Accept"


def test_the_page_and_its_files_run_no_foreign_code_and_in_no_foreign_frame(api: Api) -> None:
    for path in ("/", "/console/static/index.html", *files_of_the_page(api)):
        headers = api.client.get(path, headers={"Accept": BROWSER}).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-opener-policy"] == "same-origin"


def files_of_the_page(api: Api) -> list[str]:
    page = api.client.get("/", headers={"Accept": BROWSER}).text
    return re.findall(r'(?:src|href)="([^"#]+)"', page)


def test_all_that_the_page_names_is_here(api: Api) -> None:
    files = files_of_the_page(api)
    assert files
    for path in files:
        answer = api.client.get(path)
        assert answer.status_code == 200, path
        kind = answer.headers["content-type"]
        if path.endswith(".js"):
            assert kind == "text/javascript; charset=utf-8"
        if path.endswith(".css"):
            assert kind == "text/css; charset=utf-8"


def test_what_a_browser_has_is_not_sent_again(api: Api) -> None:
    for path in ("/", *files_of_the_page(api)):
        first = api.client.get(path, headers={"Accept": BROWSER})
        assert first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        for given in (tag, f"W/{tag}", f'"x", {tag}'):
            headers = {"Accept": BROWSER, "If-None-Match": given}
            again = api.client.get(path, headers=headers)
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
            assert again.headers["content-security-policy"] == POLICY
        other = api.client.get(path, headers={"Accept": BROWSER, "If-None-Match": '"x"'})
        assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nothing.js",
        "../pages.py",
        "..%2fpages.py",
        "%2e%2e/pages.py",
        "/etc/passwd",
        "%2fetc/passwd",
        "..\\pages.py",
        "index.html%00.js",
        ".hidden.js",
        "index.html/",
        "a" * 300 + ".js",
    ],
)
def test_nothing_but_these_files_is_served(api: Api, path: str) -> None:
    answer = api.client.get(f"/console/static/{path}")
    assert answer.status_code == 404
    assert "router" not in answer.text


def test_the_headers_are_those_that_were_agreed() -> None:
    assert HEADERS["Content-Security-Policy"] == POLICY


def test_what_the_documentation_runs_from_elsewhere_is_known_by_its_digest(api: Api) -> None:
    """A script of another origin's could use the session of whoever reads it."""
    shown = api.client.get("/docs")
    foreign = re.findall(r'<(?:script|link)[^>]*(?:src|href)="https?:[^>]*>', shown.text)
    assert len(foreign) == 2
    for tag in foreign:
        assert re.search(r"/swagger-ui-dist@\d+\.\d+\.\d+/", tag), tag
        assert re.search(r'integrity="sha384-[A-Za-z0-9+/]{64}" crossorigin="anonymous"', tag), tag
    assert api.client.get("/redoc").status_code == 404
