"""The console in a real browser, before a real service: one of each for all tests.

Whatever the page says in the browser's console, and every request that fails, fails the test.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
)

from maskmill.answers import Evaluation, Job
from maskmill.client import Client
from maskmill.embedded import EmbeddedStack, StackOptions
from maskmill.sample_scenes import draw_scene
from tests.browser.chromium import chromium, sign_in
from tests.browser.drawn_truth import as_coco
from tests.services import wait_until

SCENES = 24
SIZE = 256
PROMPTS = ("star", "circle", "triangle", "ring")
PATIENCE_MS = 20_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They share a stack, so they are of one process."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("console"))


@dataclass
class Watch:
    """What went wrong in a page, as far as nobody expected it."""

    faults: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)  # statuses of answers

    def hear(self, page: Page) -> None:
        page.on("console", self._hear_console)
        page.on("pageerror", lambda error: self.faults.append(f"{error.name}: {error.message}"))
        page.on("requestfailed", self._hear_failure)
        page.on("response", self._hear_response)

    def _hear_console(self, message: ConsoleMessage) -> None:
        # what the browser itself says of an answer is heard of by the answer
        is_status = message.text.startswith("Failed to load resource")
        if message.type in {"error", "warning"} and not is_status:
            self.faults.append(f"{message.type}: {message.text}")

    def _hear_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # given up by the page, as it should
            self.faults.append(f"{request.failure}: {request.url}")

    def _hear_response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.faults.append(f"{response.status}: {response.request.method} {response.url}")


@dataclass
class Console:
    """A tab of somebody who has signed in, and the service behind it."""

    page: Page
    watch: Watch
    stack: EmbeddedStack
    client: Client

    def go(self, fragment: str) -> Page:
        self.page.goto(f"{self.stack.url}/#{fragment}")
        return self.page


@pytest.fixture(scope="session")
def stack(session_folder: Path) -> Iterator[EmbeddedStack]:
    options = StackOptions(
        data=session_folder / "console",
        extra_environment={
            "MASKMILL_MODELS": "demo-sam3,null",  # many images quickly, beside real masks
            "MASKMILL_ALLOWED_SOURCES": "null://",
        },
        durable=False,
    )
    with EmbeddedStack(options) as stack:
        yield stack


@pytest.fixture(scope="session")
def client(stack: EmbeddedStack) -> Iterator[Client]:
    with Client(stack.url, stack.api_key) as client:
        yield client


@pytest.fixture(scope="session")
def clicks(stack: EmbeddedStack) -> None:
    """Single images are answered: their worker starts while other tests run."""
    ready = f"{stack.url}/readiness"
    wait_until(lambda: httpx.get(ready, timeout=10).status_code == 200, seconds=120)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes with known objects, one file that is no image, and one without its end."""
    folder = tmp_path_factory.mktemp("browser") / "photos"
    folder.mkdir()
    for number in range(SCENES):
        content = draw_scene(number, size=SIZE, objects=4).encoded("JPEG")
        (folder / f"scene-{number:02d}.jpg").write_bytes(content)
    (folder / "zz-broken.jpg").write_bytes(b"no image")
    (folder / "zz-cut.jpg").write_bytes((folder / "scene-00.jpg").read_bytes()[:2000])
    return folder


@pytest.fixture(scope="session")
def labelled(client: Client, photos: Path) -> Job:
    """A job on the photos that has ended, for tests that change nothing of it."""
    job = client.submit_folder(photos, PROMPTS, name="Shapes, week 12")
    return client.wait(job.id, timeout_seconds=120)


def truth_of(scenes: range, names: dict[str, str] | None = None) -> dict[str, Any]:
    """What was drawn into these of the photos: as categories with the names of the prompts, or
    with others by shape."""
    drawn = {
        f"scene-{number:02d}.jpg": [
            (one.shape, one.mask) for one in draw_scene(number, size=SIZE, objects=4).objects
        ]
        for number in scenes
    }
    return as_coco(drawn, size=(SIZE, SIZE), names=names or {name: name for name in PROMPTS})


@pytest.fixture(scope="session")
def evaluated(
    client: Client, labelled: Job, tmp_path_factory: pytest.TempPathFactory
) -> Evaluation:
    """Half of the photos of the job compared with what was drawn there, but for one thing."""
    file: Path = tmp_path_factory.mktemp("truth") / "half.json"
    truth = truth_of(range(SCENES // 2))
    truth["annotations"].pop(0)
    file.write_text(json.dumps(truth))
    made = client.create_evaluation(labelled.id, client.upload_truth("half", file))
    return client.wait_evaluation(labelled.id, made.id, timeout_seconds=120)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with chromium() as browser:
        yield browser


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    assert watch.faults == []


Open = Callable[..., BrowserContext]


@pytest.fixture
def open_context(browser: Browser) -> Iterator[Open]:
    """A browser of its own for one test: no cookies, nothing stored."""
    opened: list[BrowserContext] = []

    def open_(**options: object) -> BrowserContext:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(PATIENCE_MS)
        opened.append(context)
        return context

    yield open_
    for context in opened:
        context.close()


@pytest.fixture
def stranger(open_context: Open, watch: Watch, stack: EmbeddedStack, client: Client) -> Console:
    """Somebody who has not signed in."""
    watch.expected.add(401)
    return _console(open_context(), watch, stack, client)


@pytest.fixture
def console(open_context: Open, watch: Watch, stack: EmbeddedStack, client: Client) -> Console:
    return signed_in(open_context(), watch, stack, client)


def signed_in(
    context: BrowserContext, watch: Watch, stack: EmbeddedStack, client: Client
) -> Console:
    sign_in(context, stack)
    return _console(context, watch, stack, client)


def _console(
    context: BrowserContext, watch: Watch, stack: EmbeddedStack, client: Client
) -> Console:
    page = context.new_page()
    watch.hear(page)
    return Console(page, watch, stack, client)
