"""Files and folders, dropped on the page as by a person's mouse."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Page, Response, Route, expect

from tests.browser.conftest import Console

IMAGES = 120  # the browser lists a hundred entries of a folder at a time


def _drop(page: Page, *paths: Path, on: str = ".drop") -> None:
    """As Chromium hears it from a desktop: a folder is one, with what is in it."""
    box = page.locator(on).bounding_box()
    assert box is not None
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})
    session.detach()


@pytest.fixture
def image(photos: Path) -> bytes:
    return (photos / "scene-00.jpg").read_bytes()


@pytest.fixture
def folder(tmp_path: Path, image: bytes) -> Path:
    """Images on three levels, and what a person's computer leaves beside them."""
    folder = tmp_path / "line 3"
    for inner in ("cam 1/day", "cam 2", ".thumbnails", "empty"):
        (folder / inner).mkdir(parents=True)
    for number in range(IMAGES):
        (folder / "cam 1" / f"{number:03d}.jpg").write_bytes(image)
    for name in ("top.JPG", "cam 1/day/50%#1?.jpg", "cam 2/größe.jpg"):
        (folder / name).write_bytes(image)
    (folder / "some.txt").write_text("top.JPG\n")
    for name in (".DS_Store", "cam 1/.DS_Store", ".thumbnails/a.jpg", ".hidden.jpg", "notes.docx"):
        (folder / name).write_bytes(image)
    return folder


@pytest.fixture
def sent(console: Console) -> list[str]:
    """Names under which files came to the service."""
    found: list[str] = []

    def hear(response: Response) -> None:
        _, _, name = unquote(urlsplit(response.url).path).partition("/files/")
        if response.request.method == "PUT" and response.ok:
            found.append(name)

    console.page.on("response", hear)
    return found


def test_a_folder_comes_with_all_that_is_below_it_under_its_paths(
    console: Console, folder: Path, sent: list[str]
) -> None:
    page = console.go("/new")
    _drop(page, folder)
    expect(page.get_by_text("Uploaded", exact=True)).to_be_visible(timeout=60_000)
    expect(page.locator(".drop")).to_contain_text(f"line 3: {IMAGES + 4} files")
    # a hidden folder's file, three hidden files, and one of a kind that is not read
    expect(page.locator(".drop")).to_contain_text("5 other files left out")
    inside = {f"cam 1/{number:03d}.jpg" for number in range(IMAGES)}
    inside |= {"top.JPG", "cam 1/day/50%#1?.jpg", "cam 2/größe.jpg", "some.txt"}
    assert sorted(sent) == sorted(f"line 3/{name}" for name in inside)
    expect(page.get_by_label("Label", exact=True)).to_contain_text("line 3/some.txt")
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("placeholder", "line 3")


def test_what_was_dropped_can_be_labelled(console: Console, folder: Path, image: bytes) -> None:
    for path in sorted((folder / "cam 1").glob("*.jpg"))[2:]:
        path.unlink()
    page = console.go("/new")
    _drop(page, folder)
    expect(page.get_by_text("Uploaded", exact=True)).to_be_visible(timeout=60_000)
    page.get_by_label("Add a thing").fill("star")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Start all images").click()
    expect(page.locator(".job-title .chip")).to_have_text("Done", timeout=60_000)
    job_id = page.url.rsplit("/", 1)[1]
    answer = page.request.get(f"{console.stack.url}/v1/jobs/{job_id}/images")
    names = {one["image"] for one in answer.json()["data"]}
    assert names == {
        f"line 3/{name}"
        for name in (
            "top.JPG",
            "cam 1/000.jpg",
            "cam 1/001.jpg",
            "cam 1/day/50%#1?.jpg",
            "cam 2/größe.jpg",
        )
    }


def test_loose_files_and_a_folder_come_together(
    console: Console, tmp_path: Path, image: bytes, sent: list[str]
) -> None:
    (tmp_path / "more").mkdir()
    names = ("b.png", "a.jpg", ".DS_Store", "notes.docx", "more/c.webp")
    for name in names:
        (tmp_path / name).write_bytes(image)
    page = console.go("/new")
    _drop(page, *(tmp_path / name for name in names[:4]), tmp_path / "more")
    expect(page.get_by_text("Uploaded", exact=True)).to_be_visible(timeout=60_000)
    expect(page.locator(".drop")).to_contain_text("2 other files left out")
    assert sorted(sent) == ["a.jpg", "b.png", "more/c.webp"]


def test_a_drop_without_anything_that_is_read_says_so(
    console: Console, tmp_path: Path, sent: list[str]
) -> None:
    (tmp_path / "papers" / "empty").mkdir(parents=True)
    (tmp_path / "papers" / "notes.docx").write_text("no image")
    page = console.go("/new")
    _drop(page, tmp_path / "papers")
    expect(page.get_by_role("alert")).to_contain_text("no file of a kind that is read here")
    assert sent == []


def test_a_second_drop_does_not_disturb_an_upload_under_way(
    console: Console, folder: Path, tmp_path: Path, image: bytes, sent: list[str]
) -> None:
    (tmp_path / "other.jpg").write_bytes(image)
    page = console.go("/new")
    held: list[Route] = []
    is_held = True
    page.route("**/files/**", lambda one: held.append(one) if is_held else one.continue_())
    _drop(page, folder)
    expect(page.get_by_role("progressbar", name="Upload")).to_be_visible()
    _drop(page, tmp_path / "other.jpg")
    page.wait_for_timeout(200)
    is_held = False
    for route in held:
        route.continue_()
    expect(page.get_by_text("Uploaded", exact=True)).to_be_visible(timeout=60_000)
    assert len(sent) == IMAGES + 4
    assert "other.jpg" not in sent


def test_a_drop_beside_the_field_does_not_leave_the_page(
    console: Console, tmp_path: Path, image: bytes
) -> None:
    (tmp_path / "a.jpg").write_bytes(image)
    page = console.go("/new")
    page.get_by_label("Add a thing").fill("star")
    _drop(page, tmp_path / "a.jpg", on="h1")
    page.wait_for_timeout(300)
    assert page.context.pages == [page]  # nor in a tab of its own
    expect(page.get_by_label("Add a thing")).to_have_value("star")


# As the browser answers where a file goes away between the drop and the look at it.
_LOSE_FILES = """() => document.addEventListener('drop', (event) => {
    const folder = event.dataTransfer.items[0].webkitGetAsEntry();
    Object.getPrototypeOf(folder.createReader()).readEntries = (_, refuse) =>
        refuse(new DOMException('A file could not be found', 'NotFoundError'));
}, true)"""


def test_a_folder_that_cannot_be_read_is_said(
    console: Console, folder: Path, sent: list[str]
) -> None:
    page = console.go("/new")
    page.evaluate(_LOSE_FILES)
    _drop(page, folder)
    expect(page.get_by_role("alert")).to_contain_text("could not be found")
    expect(page.get_by_role("button", name="Choose a folder")).to_be_visible()
    assert sent == []


def test_an_image_is_tried_by_dropping_it(
    console: Console, clicks: None, tmp_path: Path, image: bytes
) -> None:
    (tmp_path / "a.jpg").write_bytes(image)
    page = console.go("/try")
    _drop(page, tmp_path / "a.jpg")
    expect(page.get_by_role("img", name="a.jpg")).to_be_visible()
