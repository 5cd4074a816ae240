"""From a folder to files for another tool, as a person goes: by mouse, and by keyboard alone."""

import json
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import SCENES, Console

PATIENCE_OF_JOBS_MS = 60_000


def _state(page: Page):
    return page.locator(".job-title .chip")


def test_a_folder_is_uploaded_previewed_labelled_looked_at_and_exported(
    console: Console, photos: Path, tmp_path: Path
) -> None:
    page = console.go("/new")
    page.locator("input[data-for=folder]").set_input_files(photos)
    page.get_by_label("Add a thing").fill("star, circle")
    page.keyboard.press("Enter")
    page.get_by_label("Threshold of star").fill("0.6")
    page.get_by_label("Add a thing").fill("photo without ring")
    expect(page.locator(".findings")).to_contain_text("negation")
    page.get_by_label("Add a thing").fill("")
    expect(page.locator(".findings")).to_have_count(0)
    expect(page.get_by_text("Uploaded", exact=True)).to_be_visible()

    page.get_by_role("button", name="Preview on 50 images").click()
    expect(_state(page)).to_have_text("On hold")
    preview = page.get_by_role("region", name="Preview")
    expect(preview.get_by_role("article")).to_have_count(2)
    expect(preview.get_by_role("img", name="star")).to_be_visible()
    expect(preview).to_contain_text("take about")
    expect(page.locator("a.tile canvas").first).to_be_visible()

    page.get_by_role("button", name="Start all images").click()
    expect(_state(page)).to_have_text("Done", timeout=PATIENCE_OF_JOBS_MS)
    bar = page.get_by_role("progressbar", name="Progress of")
    expect(bar).to_have_attribute("aria-valuenow", str(SCENES + 2))
    expect(page.locator(".facts")).to_contain_text(f"{SCENES + 2} of {SCENES + 2}")

    page.get_by_label("Threshold", exact=True).fill("0.4")
    total = page.locator(".side [role=status]")
    expect(total).to_contain_text(f"{SCENES} images")  # all but those that are none
    shown = int(total.inner_text().split()[0].replace(",", ""))
    page.get_by_role("link", name="Exports").click()
    page.get_by_role("button", name="Export", exact=True).click()
    made = page.get_by_role("article", name="COCO")
    expect(made).to_contain_text("Ready")
    with page.expect_download() as downloading:
        made.get_by_role("button", name="annotations.coco.json").click()
    downloading.value.save_as(tmp_path / "coco.json")
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert {one["name"] for one in coco["categories"]} == {"star", "circle"}
    assert len(coco["annotations"]) == shown  # star's own threshold of 0.6 among them


def _tab_to(page: Page, name: str, *, most: int = 40) -> None:
    """By Tab alone, until the focus is on what has this name."""
    names = []
    for _ in range(most):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
                const one = document.activeElement;
                return one.getAttribute('aria-label') || one.labels?.[0]?.innerText
                    || one.innerText || one.id;
            }"""
        )
        names.append(focused.strip())
        if names[-1].startswith(name):
            assert page.evaluate("document.activeElement.matches(':focus-visible')")
            return
    raise AssertionError(f"no {name!r} among {names}")


def test_the_same_way_by_keyboard_alone(stranger: Console, photos: Path) -> None:
    chosen = sorted(photos.glob("scene-0*.jpg"))
    # heard from the start: with expect_file_chooser Enter may come before anybody listens
    stranger.page.on("filechooser", lambda chooser: chooser.set_files(chosen))
    page = stranger.go("/jobs")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(stranger.stack.api_key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    _tab_to(page, "New job")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="New job")).to_be_visible()
    _tab_to(page, "Choose files")
    page.keyboard.press("Enter")
    _tab_to(page, "Add a thing")
    page.keyboard.type("star")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Uploaded", exact=True)).to_be_visible()
    _tab_to(page, "Start all images")
    page.keyboard.press("Enter")
    expect(_state(page)).to_have_text("Done", timeout=PATIENCE_OF_JOBS_MS)
    _tab_to(page, "Threshold")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("output").first).to_have_text("0.49")
    _tab_to(page, "scene-00.jpg")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text("scene-01.jpg")
    page.keyboard.press("Escape")
    _tab_to(page, "scene-01.jpg")
