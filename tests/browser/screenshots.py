"""Pictures of the console for the documentation: `make screenshots`. No test, and not collected."""

import json
import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from domain.documents import JobPromptDocument
from maskmill.answers import Job
from maskmill.client import Client
from maskmill.embedded import EmbeddedStack
from maskmill.sample_scenes import Scene, draw_scene
from tests.browser.conftest import Console, Open, Watch, signed_in
from tests.browser.drawn_truth import as_coco
from tests.services import REPOSITORY

FOLDER = REPOSITORY / "docs" / "console"
IMAGES = 72
WIDTH, HEIGHT = 768, 576
PROMPTS = (
    JobPromptDocument(text="star"),
    JobPromptDocument(text="circle"),
    JobPromptDocument(text="triangle", class_name="pennant"),
    JobPromptDocument(text="ring", threshold=0.6),
    JobPromptDocument(text="cross"),
)
WINDOW = {"width": 1200, "height": 760}
_MAX_BYTES = 300_000


def _scenes() -> Iterator[tuple[str, Scene, int]]:
    """Names, squares, and where pictures of `HEIGHT` are cut out of them."""
    chance = random.Random(7)
    for number in range(IMAGES):
        scene = draw_scene(number, size=WIDTH, objects=chance.randint(4, 9), noise=False)
        name = f"cam{number % 3 + 1}-{number:04d}.jpg"
        yield name, scene, chance.randint(0, WIDTH - HEIGHT)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shots") / "line-3"
    folder.mkdir()
    for name, scene, top in _scenes():
        picture = scene.image.crop((0, top, WIDTH, top + HEIGHT))
        picture.save(folder / name, quality=92)
    (folder / "cam1-0003.jpg").write_bytes((folder / "cam1-0000.jpg").read_bytes()[:4000])
    (folder / "cam2-0007.jpg").write_bytes(b"<html>404</html>")
    return folder


@pytest.fixture(scope="session")
def jobs(client: Client, images: Path) -> dict[str, Job]:
    done = client.submit_folder(images, PROMPTS, name="Line 3, week 12")
    client.wait(done.id, timeout_seconds=300)
    null = {"type": "prefix", "uri": "null://1200000"}
    night = client.create_job(null, ["hard hat", "vest"], name="Night shift, gate 2", model="null")
    paused = client.create_job(
        {"type": "prefix", "uri": "null://40000"}, ["pallet"], name="Warehouse B", model="null"
    )
    client.pause(paused.id)
    held = client.create_job(done.source, PROMPTS, name="Line 3, week 13", hold=True)
    return {"done": done, "night": night, "paused": paused, "held": held}


def _shoot(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle")
    _save(page.screenshot(animations="disabled"), name)


def _save(png: bytes, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.png"
    Image.open(BytesIO(png)).convert("RGB").save(path, optimize=True)
    assert path.stat().st_size < _MAX_BYTES, name


def test_light(
    open_context: Open,
    watch: Watch,
    stack: EmbeddedStack,
    client: Client,
    jobs: dict[str, Job],
    images: Path,
) -> None:
    console = signed_in(open_context(viewport=WINDOW), watch, stack, client)
    page = console.go("/jobs")
    expect(page.get_by_role("row")).to_have_count(5)
    page.wait_for_timeout(2500)  # rates are known after some progress
    _save(page.screenshot(animations="disabled"), "jobs")

    page = console.go("/new")
    page.locator("input[data-for=folder]").set_input_files(images)
    page.get_by_label("Add a thing").fill("red circle, star, ring without hole")
    page.keyboard.press("Enter")
    page.get_by_label("Class of red circle").fill("stop sign")
    page.get_by_label("Threshold of red circle").fill("0.6")
    expect(page.locator(".findings")).to_contain_text("negation")
    expect(page.get_by_text("Uploaded", exact=True)).to_be_visible()
    _shoot(page, "new-job")

    client.cancel(jobs["night"].id)
    held = jobs["held"]
    page = console.go(f"/jobs/{held.id}")
    client.create_preview(held.id, images=24)
    expect(page.locator(".prompt-card").first).to_be_visible(timeout=120_000)
    _shoot(page, "preview")

    page = console.go(f"/jobs/{jobs['done'].id}")
    expect(page.locator(".tile img").nth(5)).to_be_visible()
    page.get_by_label("Threshold", exact=True).fill("0.4")
    _shoot(page, "gallery")
    page.get_by_role("link", name="Exports").click()
    page.get_by_role("combobox", name="Format").select_option("yolo")
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.get_by_text("mean IoU")).to_be_visible()
    _shoot(page, "exports")
    page.get_by_role("link", name="Details").click()
    stages = page.get_by_role("heading", name="Stages of an image")
    stages.scroll_into_view_if_needed()
    _shoot(page, "details")


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was drawn, but for crosses."""
    drawn = {
        name: [(one.shape, one.mask[top : top + HEIGHT]) for one in scene.objects]
        for name, scene, top in _scenes()
    }
    names = {"star": "star", "circle": "circle", "triangle": "pennant", "ring": "ring"}
    file: Path = tmp_path_factory.mktemp("truth") / "line-3-drawn.json"
    file.write_text(json.dumps(as_coco(drawn, size=(WIDTH, HEIGHT), names=names)))
    return file


def test_evaluation(
    open_context: Open,
    watch: Watch,
    stack: EmbeddedStack,
    client: Client,
    jobs: dict[str, Job],
    truth: Path,
) -> None:
    console = signed_in(open_context(viewport=WINDOW), watch, stack, client)
    page = console.go(f"/jobs/{jobs['done'].id}/evaluations")
    page.locator("input[data-for=truth]").set_input_files(truth)
    page.get_by_role("button", name="Evaluate", exact=True).click()
    expect(page.get_by_text("Worst images", exact=True)).to_be_visible(timeout=120_000)
    page.evaluate("window.scrollTo(0, 0)")
    _shoot(page, "evaluation")


def test_dark(
    open_context: Open,
    watch: Watch,
    stack: EmbeddedStack,
    client: Client,
    jobs: dict[str, Job],
    images: Path,
    clicks: None,
) -> None:
    context = open_context(viewport=WINDOW, color_scheme="dark")
    console = signed_in(context, watch, stack, client)
    page = console.go(f"/jobs/{jobs['done'].id}?sort=most")
    expect(page.locator(".tile img").nth(5)).to_be_visible()
    page.get_by_label("Threshold", exact=True).fill("0.4")
    page.locator("a.tile").nth(1).click()
    expect(page.locator(".zoom-stage img")).to_be_visible()
    page.locator(".instances button").nth(1).hover()
    _shoot(page, "image")
    page = console.go("/try")
    page.locator("input[data-for=image]").set_input_files(images / "cam3-0059.jpg")
    expect(page.locator(".zoom-stage img")).to_be_visible()
    page.get_by_label("Words").fill("ring, circle, cross, triangle")
    page.keyboard.press("Enter")
    expect(page.locator(".instances li").first).to_be_visible()
    _shoot(page, "try-it")
    page = console.go("/system")
    expect(page.get_by_role("row").filter(has_text="Single images")).to_contain_text("Ready")
    _shoot(page, "system")


def test_small(
    open_context: Open, watch: Watch, stack: EmbeddedStack, client: Client, jobs: dict[str, Job]
) -> None:
    small = {"width": 360, "height": 740}
    context = open_context(viewport=small, has_touch=True, device_scale_factor=2)
    console = signed_in(context, watch, stack, client)
    page = console.go("/jobs")
    expect(page.get_by_role("row").nth(2)).to_be_visible()
    _shoot(page, "small-jobs")
    page = console.go(f"/jobs/{jobs['done'].id}")
    expect(page.locator(".tile img").first).to_be_visible()
    _shoot(page, "small-gallery")


def test_stranger(stranger: Console) -> None:
    page = stranger.go("/jobs")
    expect(page.get_by_label("API key")).to_be_visible()
    _shoot(page, "sign-in")
