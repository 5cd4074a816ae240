"""What axe finds, in both themes, and what a small window does to a page."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from maskmill.answers import Evaluation, Job
from maskmill.client import Client
from maskmill.embedded import EmbeddedStack
from tests.browser.conftest import Console, Open, Watch, signed_in

_AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text("utf-8")
_FINDINGS = """async () => {
    const { violations } = await axe.run(document, { resultTypes: ['violations'] });
    return violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))
        .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html).join(' | ')}`);
}"""
_WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def _pages(job: Job) -> dict[str, str]:
    """Fragments, with the text by which a page is known to be there."""
    return {
        "/jobs": str(job.name),
        "/new": "What to look for",
        "/try": "Choose an image",
        "/system": "Images in the queue",
        f"/jobs/{job.id}": "scene-00.jpg",
        f"/jobs/{job.id}/errors": "Save it as JPEG",
        f"/jobs/{job.id}/exports": "New export",
        f"/jobs/{job.id}/evaluations": "Worst images",
        f"/jobs/{job.id}/details": "What happened",
        f"/jobs/{job.id}/images/0": "Raw JSON",
    }


def _visit(console: Console, fragment: str, text: str) -> Page:
    page = console.go(fragment)
    page.reload()  # another fragment alone is the same document
    expect(page.get_by_text(text).first).to_be_visible()
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    open_context: Open,
    watch: Watch,
    stack: EmbeddedStack,
    client: Client,
    labelled: Job,
    evaluated: Evaluation,
    scheme: str,
) -> None:
    # in the page's own world scripts are the page's: axe is none of them
    context = open_context(color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    console = signed_in(context, watch, stack, client)
    found = {}
    for fragment, text in _pages(labelled).items():
        page = _visit(console, fragment, text)
        page.evaluate(_AXE)
        found[fragment] = page.evaluate(_FINDINGS)
    assert {fragment: findings for fragment, findings in found.items() if findings} == {}


def test_sign_in_has_nothing_serious_either(
    open_context: Open, watch: Watch, stack: EmbeddedStack
) -> None:
    watch.expected.add(401)
    page = open_context(bypass_csp=True).new_page()
    watch.hear(page)
    page.goto(stack.url)
    expect(page.get_by_label("API key")).to_be_visible()
    page.evaluate(_AXE)
    assert page.evaluate(_FINDINGS) == []


def test_no_page_scrolls_sideways_at_360_pixels(
    open_context: Open,
    watch: Watch,
    stack: EmbeddedStack,
    client: Client,
    labelled: Job,
    evaluated: Evaluation,
) -> None:
    context = open_context(viewport={"width": 360, "height": 740}, has_touch=True)
    console = signed_in(context, watch, stack, client)
    wider = {
        fragment: _visit(console, fragment, text).evaluate(_WIDER)
        for fragment, text in _pages(labelled).items()
    }
    assert {fragment: pixels for fragment, pixels in wider.items() if pixels > 0} == {}


def test_the_theme_is_the_systems_until_one_is_chosen(
    open_context: Open, watch: Watch, stack: EmbeddedStack, client: Client
) -> None:
    console = signed_in(open_context(color_scheme="dark"), watch, stack, client)
    page = console.go("/jobs")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    expect(page.get_by_role("button", name="Theme: system")).to_be_visible()
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Theme: system").click()
    assert page.evaluate(ground) != dark
    page.reload()
    expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
    assert page.evaluate(ground) != dark
