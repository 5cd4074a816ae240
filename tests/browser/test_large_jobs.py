"""A job of many images costs the page no more than what is seen of it."""

import pytest
from playwright.sync_api import Page, Request, expect

from maskmill.answers import Job
from maskmill.client import Client
from tests.browser.conftest import Console

IMAGES = 10_000


@pytest.fixture(scope="session")
def large(client: Client) -> Job:
    """Made-up masks on images that have no picture."""
    source = {"type": "prefix", "uri": f"null://{IMAGES}"}
    job = client.create_job(source, ["thing"], name="A large one", model="null")
    return client.wait(job.id, timeout_seconds=120)


def _settle(page: Page) -> None:
    expect(page.locator("a.tile canvas").first).to_be_visible()
    page.wait_for_load_state("networkidle")


def test_only_what_is_seen_is_asked_for_and_exists(console: Console, large: Job) -> None:
    console.watch.expected.add(415)  # no pictures
    page = console.page
    asked: list[str] = []

    def hear(request: Request) -> None:
        if "/images" in request.url:
            asked.append(request.url)

    page.on("request", hear)
    console.go(f"/jobs/{large.id}")
    _settle(page)
    assert page.locator(".tile").count() < 40
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.locator(f"[data-position='{IMAGES - 1}'] canvas")).to_be_visible()
    _settle(page)
    assert page.locator(".tile").count() < 40
    lists = [url for url in asked if "annotations=true" in url]
    assert 2 <= len(lists) <= 5  # the first pages and the last, none between
    assert len(asked) < 80


def test_what_is_scrolled_past_is_given_up(console: Console, large: Job) -> None:
    console.watch.expected.add(415)
    page = console.go(f"/jobs/{large.id}")
    _settle(page)
    given_up: list[str] = []
    page.on("requestfailed", lambda request: given_up.append(request.url))
    page.route("**/picture?*", lambda route: None)  # a slow network: no picture ever comes
    with page.expect_request("**/picture?*"):
        page.evaluate("window.scrollTo(0, 40000)")
    with page.expect_event("requestfailed", lambda request: "/picture" in request.url):
        page.evaluate("window.scrollTo(0, 0)")
    expect(page.locator("[data-position='0'] canvas")).to_be_visible()
    assert given_up
