import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from domain.documents import JobPromptDocument
from domain.estimate import SampledSlice, estimate
from domain.exports import ShownImage, ShownInstance
from domain.findings import FindingCode, PromptFinding, Severity
from domain.preview import PreviewReport, Reading, preview
from tests.unit.domain.shown_masks import ShownSource, rectangle
from tests.unit.workers.reports.pages import Page, assert_self_contained
from workers.reports.preview import (
    MAX_PICTURES,
    FailedImage,
    Picture,
    draw_pictures,
    preview_page,
)

# pycocotools 2.0.11 has not followed numpy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>&amp;\x1b[2J'
FIRST, SECOND = (0, 200, 255), (255, 64, 129)  # the colours of the first classes


def prompts(*texts: str) -> list[JobPromptDocument]:
    return [JobPromptDocument(text=text) for text in texts]


def report_of(source: ShownSource, **options: object) -> PreviewReport:
    chosen = {"floor": 0.1, "failed": {}, "reading": Reading(), **options}
    return preview(source, **chosen)


def jpeg_of(colour: str = "black") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (100, 100), colour).save(out, "JPEG", quality=95)
    return out.getvalue()


@dataclass
class Store:
    """Black images; says which were read."""

    read: list[str] = field(default_factory=list)

    def __call__(self, image: ShownImage) -> bytes:
        self.read.append(image.image)
        return jpeg_of()


def drawn(source: ShownSource, **options: object) -> list[Picture]:
    return list(draw_pictures(source, report_of(source, **options), Store()))


def page_of(source: ShownSource, **options: object) -> str:
    report = report_of(source, **options)
    return preview_page(report, list(draw_pictures(source, report, Store())), source="photos")


def pixels(picture: Picture) -> np.ndarray:
    with Image.open(io.BytesIO(picture.jpeg)) as image:
        return np.asarray(image).astype(int)


def is_near(pixel: np.ndarray, colour: Sequence[float]) -> bool:
    return bool(np.abs(pixel - np.array(colour)).max() < 30)


def one_of_each(count: int) -> list[list[ShownInstance]]:
    """Images, each with an instance of a prompt of its own."""
    return [[rectangle(prompt, (10, 10, 60, 60))] for prompt in range(count)]


def test_pictures_have_masks_in_their_classes_colours_and_counts() -> None:
    found = [
        rectangle(0, (0, 0, 40, 40)),
        rectangle(1, (60, 60, 99, 99)),
        rectangle(1, (0, 60, 30, 90)),
    ]
    (picture,) = drawn(ShownSource(prompts("circle", "star"), [found]))
    assert picture.name == "scene-0.png"
    assert [(one.name, one.count) for one in picture.classes] == [("circle", 1), ("star", 2)]
    shown = pixels(picture)
    assert shown.shape == (480, 480, 3)
    assert is_near(shown[96, 96], [0.45 * part for part in FIRST])
    assert is_near(shown[380, 380], [0.45 * part for part in SECOND])
    assert is_near(shown[96, 380], (0, 0, 0))


def test_what_does_not_count_is_drawn_only_of_prompts_that_find_nothing_and_without_a_tint() -> (
    None
):
    found = [
        rectangle(0, (0, 0, 40, 40), 0.9),
        rectangle(0, (0, 60, 40, 99), 0.45),
        rectangle(1, (60, 60, 99, 99), 0.45),
        rectangle(1, (60, 0, 99, 40), 0.2),
    ]
    (picture,) = drawn(ShownSource(prompts("circle", "dog"), [found]))
    assert [one.name for one in picture.classes] == ["circle"]
    shown = pixels(picture)
    assert is_near(shown[380, 96], (0, 0, 0))
    assert is_near(shown[380, 380], (0, 0, 0))
    assert shown[380, 286:292, 0].max() > 150  # the outline, at its left side
    assert shown[96, 286:292].max() < 30


def test_prompts_that_images_bring_along_are_drawn_in_their_own_colour() -> None:
    source = ShownSource(prompts("circle", "car"), [[rectangle(1, (0, 0, 40, 40))]])
    report = report_of(ShownSource(prompts("circle"), source.images))
    (picture,) = draw_pictures(source, report, Store())
    assert [(one.name, one.colour) for one in picture.classes] == [("car", SECOND)]


def test_of_many_images_each_prompt_has_some_and_so_has_finding_nothing() -> None:
    common = [[rectangle(0, (10, 10, 60, 60))] for _ in range(400)]
    rare = [[rectangle(prompt, (10, 10, 60, 60))] for prompt in (1, 2, 2)]
    source = ShownSource(prompts("a", "b", "c"), [*common, *([] for _ in range(100)), *rare])
    store = Store()
    pictures = list(draw_pictures(source, report_of(source), store))
    assert len(pictures) == MAX_PICTURES
    assert store.read == [picture.name for picture in pictures]  # and no others
    numbers = [int(name.removeprefix("scene-").removesuffix(".png")) for name in store.read]
    assert numbers == sorted(numbers)
    names = [{one.name for one in picture.classes} for picture in pictures]
    assert (names.count({"b"}), names.count({"c"})) == (1, 2)
    assert 25 < names.count({"a"}) < 32
    assert 25 < names.count(set()) < 32
    of_common = [number for number in numbers if number < 400]
    assert max(of_common) > 300  # from all over the sample
    assert min(of_common) < 100


def test_few_images_are_all_shown() -> None:
    assert len(drawn(ShownSource(prompts("a", "b", "c"), [*one_of_each(3), [], []]))) == 5


def test_an_image_that_cannot_be_had_is_drawn_on_grey() -> None:
    source = ShownSource(prompts("a"), one_of_each(1))
    (picture,) = draw_pictures(source, report_of(source), lambda image: None)
    assert is_near(pixels(picture)[470, 470], (96, 100, 110))


def test_the_page_holds_all_it_shows() -> None:
    html = page_of(ShownSource(prompts("circle", "no dog"), one_of_each(1)))
    assert_self_contained(html)
    assert len(Page(html).all("img")) == 1


def test_the_page_is_in_order_for_readers_of_any_kind() -> None:
    page = Page(page_of(ShownSource(prompts("circle", "dog"), one_of_each(2))))
    headings = [tag for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in page.all("svg"))
    assert all(cell["scope"] in ("col", "row") for cell in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    assert len([row for row in page.all("tr") if row.get("id", "").startswith("prompt-")]) == 2
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [(link["href"] or "").removeprefix("#") for link in page.all("a")]
    assert set(links) <= set(ids)


def test_findings_stand_before_everything_else_warnings_first() -> None:
    text = Page(
        page_of(ShownSource(prompts("circle", "dog", "cats and dogs"), one_of_each(1)))
    ).text
    nothing, several = text.index("“dog” finds nothing"), text.index("names several things")
    assert nothing < several < text.index("What the full run takes") < text.index("Prompts")


def test_a_page_without_findings_says_so() -> None:
    text = Page(page_of(ShownSource(prompts("circle"), one_of_each(1)))).text
    assert "Nothing stands out" in text


def test_many_hints_are_folded_away_and_warnings_never() -> None:
    source = ShownSource(prompts("circle"), one_of_each(1))
    report = report_of(source)
    told = [
        PromptFinding(severity=severity, code=FindingCode.RARE_WORD, prompt_index=0, message="m")
        for severity in [Severity.WARNING] * 15 + [Severity.HINT] * 25
    ]
    page = Page(preview_page(report.model_copy(update={"findings": told}), [], source="photos"))
    assert "15 more hints" in page.text
    folded = [tag for tag, _ in page.tags].index("details")
    before = [attributes for tag, attributes in page.tags[:folded] if tag == "li"]
    assert [one["class"] for one in before] == ["finding warning"] * 15 + ["finding hint"] * 10


def test_the_estimate_is_told_for_several_numbers_of_workers() -> None:
    times = [10.0, 14.0, 18.0, 22.0, 26.5]
    timed = estimate(
        [SampledSlice(8, "w", 0.0, time) for time in times], images_total=7200, workers=3
    )
    html = page_of(ShownSource(prompts("circle"), one_of_each(1)), estimate=timed)
    words = " ".join(Page(html).text.split())
    assert "7,200 images need about 1.03 GPU hours" in words
    assert "Measured on 32 images" in words
    rows = re.findall(r"<tr><td[^>]*>(\d)</td><td[^>]*>(.*)</td></tr>", html)
    assert rows == [
        ("1", "1 h 2 min"),
        ("2", "30 min 56 s"),
        ("3", "20 min 38 s"),
        ("4", "15 min 28 s"),
        ("8", "7 min 44 s"),
    ]


def test_a_sample_too_small_to_time_says_so() -> None:
    timed = estimate([SampledSlice(4, "w", 0.0, 4.0)], images_total=7200)
    text = Page(page_of(ShownSource(prompts("circle"), one_of_each(1)), estimate=timed)).text
    assert "too small" in text
    assert "most likely between" not in text


def test_a_sample_that_failed_altogether_makes_a_page_too() -> None:
    report = report_of(ShownSource(prompts("circle"), []), failed={"not_found": 2})
    failed = [FailedImage(f"{n}.jpg", "not_found", "there is no such image") for n in range(2)]
    page = Page(preview_page(report, [], source="photos", failed=failed))
    assert page.text.count("not_found") == 2
    assert "No image of the sample was labelled" in page.text


def test_of_many_failed_images_some_are_shown_and_all_are_counted() -> None:
    report = report_of(ShownSource(prompts("circle"), []), failed={"not_found": 20, "truncated": 3})
    failed = [FailedImage(f"{n}.jpg", "not_found", "none") for n in range(20)]
    page = Page(preview_page(report, [], source="photos", failed=failed))
    assert len([f for f in page.all("figure") if f.get("class") == "failed"]) == 12
    assert "23 images failed, 12 of them shown" in page.text
    assert "not_found 20, truncated 3" in " ".join(page.text.split())


def test_names_of_others_are_text_and_nothing_else() -> None:
    hostile = JobPromptDocument(text=HOSTILE, class_name="x" + HOSTILE)
    source = ShownSource([hostile, JobPromptDocument(text="no " + HOSTILE)], one_of_each(2))
    report = report_of(source, failed={"decode_error": 1})
    (first, *_) = draw_pictures(source, report, Store())
    picture = Picture(HOSTILE, first.jpeg, first.classes)
    failed = [FailedImage(HOSTILE, "decode_error", HOSTILE)]
    html = preview_page(report, [picture], source=HOSTILE, failed=failed)
    assert_self_contained(html)
    page = Page(html)
    assert len(page.all("img")) == 1
    shown = HOSTILE.replace("\x1b", "\\x1b")
    assert page.text.count(shown) >= 8
    assert "\x1b" not in html
    assert (page.all("img")[0]["alt"] or "").startswith(shown)


def test_a_thousand_images_make_a_page_of_a_few_megabytes() -> None:
    noise = io.BytesIO()
    Image.effect_noise((600, 400), 60).convert("RGB").save(noise, "JPEG")
    content = noise.getvalue()
    source = ShownSource(prompts("a"), one_of_each(1) * 1000)
    report = report_of(source)
    pictures = list(draw_pictures(source, report, lambda image: content))
    html = preview_page(report, pictures, source="photos")
    assert len(html) < 10_000_000
    assert "60 of 1,000 are shown" in Page(html).text
