"""A job's images: masks, thresholds, orders, and one image alone."""

import re

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

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


def _wait_for_paint(page: Page) -> None:
    """What is shown is painted in the next frame."""
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


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
    _wait_for_paint(gallery)
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


def _opened(gallery: Page, *, threshold: float) -> tuple[Locator, Locator]:
    """The window of scene 2, and the image in it."""
    _set_threshold(gallery, threshold)
    gallery.locator("a.tile").filter(has_text="scene-02.jpg").click()
    dialog = gallery.get_by_role("dialog")
    image = dialog.locator(".zoom-stage img")
    expect(image).to_be_visible()
    return dialog, image


def test_pointing_at_an_object_tells_its_mask_and_keys_lead_to_the_neighbours(
    gallery: Page,
) -> None:
    dialog, image = _opened(gallery, threshold=0.3)
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


_PAINTED = """(points) => {
    const stage = document.querySelector('.zoom-stage').getBoundingClientRect();
    const image = document.querySelector('.zoom-stage img').getBoundingClientRect();
    const canvas = document.querySelector('.stage-masks:not([hidden])');
    const box = canvas.getBoundingClientRect();
    const { width, height } = canvas;
    const copy = Object.assign(document.createElement('canvas'), { width, height });
    const context = copy.getContext('2d', { willReadFrequently: true });
    context.drawImage(canvas, 0, 0);
    return points.map(([x, y]) => {
        const left = image.left + x * image.width;
        const top = image.top + y * image.height;
        const isSeen = left > stage.left && left < stage.right && top > stage.top
            && top < stage.bottom;
        const column = Math.floor((left - box.left) / box.width * width);
        const row = Math.floor((top - box.top) / box.height * height);
        return isSeen ? Number(context.getImageData(column, row, 1, 1).data[3] > 0) : -1;
    });
}"""
_COUNT_PAINTINGS = """() => {
    window.paintings = 0;
    const put = CanvasRenderingContext2D.prototype.putImageData;
    CanvasRenderingContext2D.prototype.putImageData = function (...values) {
        window.paintings += 1;
        return put.apply(this, values);
    };
}"""


def _assert_masks_lie_on_objects(page: Page) -> None:
    """At each fourth pixel of the image that the stage shows."""
    objects = draw_scene(2, size=SIZE, objects=4).objects
    anything = np.any([one.mask for one in objects], axis=0)
    known = {"star", "circle", "triangle", "ring"}
    found = np.any([one.mask for one in objects if one.shape in known], axis=0)
    ys, xs = (values.ravel() for values in np.mgrid[2:SIZE:4, 2:SIZE:4])
    points = [[(x + 0.5) / SIZE, (y + 0.5) / SIZE] for x, y in zip(xs, ys, strict=True)]
    painted = np.array(page.evaluate(_PAINTED, points))
    inside, outside = painted[found[ys, xs]], painted[~anything[ys, xs]]
    assert (inside >= 0).sum() > 20
    assert (inside[inside >= 0] == 1).mean() > 0.9
    assert (outside[outside >= 0] == 1).mean() < 0.1


def _drag(page: Page, dx: int, dy: int) -> int:
    """How often masks were painted meanwhile."""
    box = page.locator(".zoom-stage").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    before = page.evaluate("paintings")
    page.mouse.move(x + dx, y + dy, steps=8)
    paintings = page.evaluate("paintings") - before
    page.mouse.up()
    return paintings


def test_masks_move_with_their_objects_and_are_painted_only_where_a_zoom_has_come_to_rest(
    gallery: Page,
) -> None:
    dialog, image = _opened(gallery, threshold=0.3)
    _assert_masks_lie_on_objects(gallery)
    whole, sharp = (dialog.locator(".stage-masks").nth(number) for number in (0, 1))
    gallery.evaluate(_COUNT_PAINTINGS)

    thrice = "(button) => { for (let click = 0; click < 3; click++) button.click(); }"
    dialog.get_by_role("button", name="Zoom in").evaluate(thrice)  # without a rest between
    _assert_masks_lie_on_objects(gallery)
    expect(sharp).to_be_visible()
    expect(whole).to_be_hidden()
    gallery.wait_for_timeout(300)
    _assert_masks_lie_on_objects(gallery)
    assert gallery.evaluate("paintings") == 1
    scale = gallery.evaluate(
        """() => new DOMMatrix(getComputedStyle(document.querySelectorAll('.stage-masks')[1])
            .transform).a * devicePixelRatio"""
    )
    assert scale == pytest.approx(1)  # a pixel of the masks is one of the screen

    before = image.bounding_box()
    assert _drag(gallery, -70, 40) == 0  # not out of what is painted
    after = image.bounding_box()
    assert before is not None
    assert after is not None
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((-70, 40))
    _assert_masks_lie_on_objects(gallery)
    expect(sharp).to_be_visible()

    assert _drag(gallery, -350, 0) <= 1  # out of it: the whole, if another mask is pointed at now
    _assert_masks_lie_on_objects(gallery)
    expect(sharp).to_be_visible()
    _assert_masks_lie_on_objects(gallery)

    dialog.get_by_role("button", name="Fit").click()
    expect(sharp).to_have_count(0)
    _assert_masks_lie_on_objects(gallery)


def test_masks_of_a_zoomed_image_follow_the_slider(gallery: Page) -> None:
    dialog, _ = _opened(gallery, threshold=1)
    for _ in range(2):
        dialog.get_by_role("button", name="Zoom in").click()
    expect(dialog.locator(".stage-masks").nth(1)).to_be_visible()
    dialog.get_by_label("Threshold", exact=True).fill("0.3")
    _wait_for_paint(gallery)
    _assert_masks_lie_on_objects(gallery)
    dialog.get_by_role("button", name="Fit").click()  # other masks, painted before the change
    _assert_masks_lie_on_objects(gallery)
