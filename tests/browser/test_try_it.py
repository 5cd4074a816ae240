"""One image, answered at once."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from maskmill.sample_scenes import draw_scene
from tests.browser.conftest import SIZE, Console


@pytest.fixture
def bench(console: Console, photos: Path, clicks: None) -> Page:
    page = console.go("/try")
    page.locator("input[data-for=image]").set_input_files(photos / "scene-02.jpg")
    expect(page.locator(".zoom-stage img")).to_be_visible()
    return page


def _spot(page: Page, x: float, y: float) -> tuple[float, float]:
    box = page.locator(".zoom-stage img").bounding_box()
    assert box is not None
    return box["x"] + x / SIZE * box["width"], box["y"] + y / SIZE * box["height"]


def _area(page: Page) -> int:
    text = page.locator(".instances .area").first.inner_text()
    return int(text.removesuffix(" px").replace(",", ""))


def test_a_click_on_an_object_gives_its_mask(bench: Page) -> None:
    one = max(draw_scene(2, size=SIZE, objects=4).objects, key=lambda one: one.mask.sum())
    bench.get_by_role("button", name="Click on objects").click()
    bench.mouse.click(*_spot(bench, *one.centre))
    expect(bench.locator(".instances")).to_contain_text("object 1")
    assert _area(bench) == pytest.approx(one.mask.sum(), rel=0.15)
    bench.get_by_role("button", name="Take back").click()
    expect(bench.locator(".instances")).to_have_count(0)


def test_words_find_things_and_the_slider_asks_nothing(bench: Page) -> None:
    shapes = {one.shape for one in draw_scene(2, size=SIZE, objects=4).objects}
    shape = sorted(shapes & {"star", "circle", "triangle", "ring"})[0]
    bench.get_by_label("Words").fill(shape)
    bench.keyboard.press("Enter")
    expect(bench.locator(".instances")).to_contain_text(shape)
    requests: list[str] = []
    bench.on("request", lambda request: requests.append(request.url))
    bench.get_by_label("Threshold", exact=True).fill("1")
    expect(bench.locator(".instances li")).to_have_count(0)
    assert requests == []


def test_a_box_around_an_example_finds_what_is_like_it(bench: Page) -> None:
    one = draw_scene(2, size=SIZE, objects=4).objects[0]
    left, top, right, bottom = one.box
    bench.mouse.move(*_spot(bench, left, top))
    bench.mouse.down()
    bench.mouse.move(*_spot(bench, right, bottom), steps=3)
    bench.mouse.up()
    expect(bench.get_by_text("1 box ·")).to_be_visible()
    bench.get_by_role("button", name="Find", exact=True).click()
    bench.get_by_label("Threshold", exact=True).fill("0.1")
    expect(bench.locator(".instances li").first).to_contain_text("like the boxes")
