"""A job's images: masks, thresholds, orders, and one image alone."""

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from maskmill.answers import Job
from maskmill.sample_scenes import draw_scene
from tests.browser.conftest import SCENES, SIZE, Console


@pytest.fixture
def gallery(console: Console, labelled: Job) -> Page:
    page = console.go(f"/jobs/{labelled.id}")
    expect(page.locator("a.tile").first).to_be_visible()
    expect(_sum(page)).to_contain_text(f"{SCENES} images")  # as many as are looked at first
    return page


def _sum(page: Page):
    return page.locator(".side [role=status]")


def _set_threshold(page: Page, value: float) -> None:
    page.get_by_label("Threshold", exact=True).first.fill(str(value))


def _scores(console: Console, job: Job) -> list[float]:
    found = []
    for index in range(SCENES):
        path = f"/v1/jobs/{job.id}/images/{index}/annotations?min_score=0"
        answer = console.page.request.get(f"{console.stack.url}{path}").json()
        found += [one["score"] for one in answer["annotations"]]
    return found


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.75])
def test_the_slider_shows_as_many_masks_as_have_the_score_without_any_request(
    gallery: Page, console: Console, labelled: Job, threshold: float
) -> None:
    expected = sum(score >= threshold for score in _scores(console, labelled))
    requests: list[str] = []
    gallery.wait_for_load_state("networkidle")
    gallery.on("request", lambda request: requests.append(request.url))
    _set_threshold(gallery, threshold)
    expect(_sum(gallery)).to_have_text(re.compile(rf"^{expected:,} masks? in the "))
    assert [url for url in requests if "/images" in url] == []


def test_masks_are_painted_where_the_objects_are(gallery: Page) -> None:
    _set_threshold(gallery, 0.3)
    tile = gallery.locator("a.tile").filter(has_text="scene-02.jpg")
    gallery.wait_for_timeout(100)
    alpha = tile.locator("canvas").evaluate(
        """(canvas) => {
            const { width, height } = canvas;
            const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
            return [width, height, [...data].filter((_, at) => at % 4 === 3)];
        }"""
    )
    width, height, values = alpha
    painted = np.array(values).reshape(height, width) > 0
    for one in draw_scene(2, size=SIZE, objects=4).objects:
        if one.shape in {"star", "circle", "triangle", "ring"}:
            ys, xs = np.nonzero(one.mask)
            at = (ys * height // SIZE, xs * width // SIZE)
            assert painted[at].mean() > 0.7, one.name
    corner = painted[: height // 40, : width // 40]
    assert not corner.any()


def test_a_class_can_be_hidden_and_have_a_threshold_of_its_own(gallery: Page) -> None:
    _set_threshold(gallery, 0.5)
    before = _sum(gallery).inner_text()
    row = gallery.get_by_role("listitem").filter(has_text="star").first
    gallery.get_by_role("button", name="Hide star").click()
    expect(_sum(gallery)).not_to_have_text(before)
    gallery.get_by_role("button", name="Show star").click()
    expect(_sum(gallery)).to_have_text(before)
    gallery.get_by_role("button", name="A threshold of its own for star").click()
    gallery.get_by_label("Threshold of star").fill("1")
    expect(row).to_contain_text("1.00")
    expect(_sum(gallery)).not_to_have_text(before)
    expect(gallery.locator("output")).to_have_text("0.50")


@pytest.mark.parametrize(("order", "name"), [("most", "most"), ("fewest", "fewest")])
def test_images_are_ordered_by_how_many_masks_they_have(
    gallery: Page, order: str, name: str
) -> None:
    _set_threshold(gallery, 0.1)
    gallery.get_by_label("Order").select_option(order)
    expect(gallery).to_have_url(re.compile(f"sort={name}"))
    expect(gallery.locator("a.tile").nth(3)).to_be_visible()
    texts = gallery.locator("a.tile .caption").all_inner_texts()
    counts = [int(found[1]) for text in texts if (found := re.search(r"(\d+) masks?", text))]
    assert counts == sorted(counts, reverse=order == "most")
    assert len(counts) > 3


def test_failed_images_alone_say_why_they_failed(gallery: Page) -> None:
    gallery.get_by_label("Order").select_option("failed")
    expect(gallery.locator("a.tile")).to_have_count(2)
    expect(gallery.locator("a.tile").first).to_contain_text("unsupported")


def test_pointing_at_an_object_tells_its_mask_and_keys_lead_to_the_neighbours(
    gallery: Page,
) -> None:
    _set_threshold(gallery, 0.3)
    gallery.locator("a.tile").filter(has_text="scene-02.jpg").click()
    dialog = gallery.get_by_role("dialog")
    image = dialog.locator(".zoom-stage img")
    expect(image).to_be_visible()
    scene = draw_scene(2, size=SIZE, objects=4)
    one = next(one for one in scene.objects if one.shape in {"star", "circle", "triangle", "ring"})
    box = image.bounding_box()
    assert box is not None
    x, y = (value / SIZE for value in one.centre)
    gallery.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    expect(dialog.locator(".instances [aria-pressed=true]")).to_contain_text(one.shape)
    gallery.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading")).to_have_text("scene-03.jpg")
    gallery.keyboard.press("ArrowLeft")
    gallery.keyboard.press("ArrowLeft")
    expect(dialog.get_by_role("heading")).to_have_text("scene-01.jpg")
    gallery.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(gallery.locator("a.tile").nth(1)).to_be_focused()


def test_an_image_is_zoomed_and_its_raw_answer_shown(gallery: Page) -> None:
    gallery.locator("a.tile").first.click()
    dialog = gallery.get_by_role("dialog")
    image = dialog.locator(".zoom-stage img")
    expect(image).to_be_visible()
    before = image.bounding_box()
    dialog.get_by_role("button", name="Zoom in").click()
    expect(dialog).to_contain_text("150 %")
    after = image.bounding_box()
    assert before is not None
    assert after is not None
    assert after["width"] == pytest.approx(1.5 * before["width"], rel=0.01)
    dialog.get_by_role("button", name="Raw JSON").click()
    expect(dialog.get_by_label("Raw JSON")).to_contain_text('"file_name": "scene-00.jpg"')
