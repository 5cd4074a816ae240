"""Debian's Chromium, as tests, screenshots and benchmarks start it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from maskmill.embedded import EmbeddedStack

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MISSING = (
    "The console is tested in Debian's Chromium, which is not here: `make chromium` as root, or "
    "apt-get install --no-install-recommends chromium"
)


class NoChromium(Exception):
    pass


@contextmanager
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        raise NoChromium(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


def sign_in(context: BrowserContext, stack: EmbeddedStack) -> None:
    """As the page does, without the page."""
    answer = context.request.post(f"{stack.url}/console/session", data={"api_key": stack.api_key})
    assert answer.status == 204, answer.text()
