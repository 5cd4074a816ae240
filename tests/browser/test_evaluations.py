"""A result compared with drawn truth on a job's page, and truths that cannot be used."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from maskmill.answers import Evaluation, Job
from tests.browser.conftest import PROMPTS, SCENES, Console, truth_of

MANY = 4000  # images
FIGURES = {
    "AP": ("precision", "ap"),
    "AP50": ("precision", "ap50"),
    "AP75": ("precision", "ap75"),
    "AR": ("precision", "ar100"),
    "cgF1": ("concept", "cg_f1"),
    "pmF1": ("concept", "pm_f1"),
    "IL_MCC": ("concept", "il_mcc"),
}


def file_of(folder: Path, name: str, content: Any) -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def opened(console: Console, job: Job) -> Page:
    page = console.go(f"/jobs/{job.id}/evaluations")
    expect(page.get_by_role("heading", name="New evaluation")).to_be_visible()
    return page


def evaluate(page: Page, file: Path) -> Locator:
    """The newest evaluation by the file's name."""
    page.locator("input[data-for=truth]").set_input_files(file)
    page.get_by_role("button", name="Evaluate", exact=True).click()
    return page.get_by_role("article", name=file.name).first


def made_of(console: Console, job: Job, file: Path) -> list[Evaluation]:
    """With this truth, as the API has them, the newest first."""
    truth = sha256(file.read_bytes()).hexdigest()
    return [
        console.client.get_evaluation(job.id, one.id)
        for one in console.client.iter_evaluations(job.id)
        if one.truth_sha256 == truth
    ]


def shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def test_a_result_is_compared_with_drawn_truth(
    console: Console, labelled: Job, tmp_path: Path
) -> None:
    page = opened(console, labelled)
    truth = truth_of(range(SCENES))
    truth["annotations"].pop(0)  # the network finds it, so that one is wrong
    file = file_of(tmp_path, "drawn.json", truth)
    card = evaluate(page, file)
    expect(card).to_contain_text("Ready")
    expect(card).to_contain_text(f"{SCENES} images compared")
    (made,) = made_of(console, labelled, file)
    report = made.report
    assert report is not None
    overall = report.overall.model_dump()
    assert 0.5 < overall["precision"]["ap50"] < 1
    figures = card.locator(".facts > div")
    assert dict(line.split("\n") for line in figures.all_inner_texts()) == {
        name: shown(overall[group][key]) for name, (group, key) in FIGURES.items()
    }
    assert rows(card, "Figures by class") == [
        [
            *(one.class_name, str(one.truth), str(one.instances)),
            *map(shown, (one.precision.ap, one.precision.ap50)),
            *map(shown, (one.precision.ap75, one.precision.ar100)),
        ]
        for one in report.classes
    ]
    assert [row[0] for row in rows(card, "Figures by prompt")] == list(PROMPTS)
    worst = report.worst[0]
    link = card.get_by_role("link", name=worst.image)
    expect(link).to_have_attribute("href", f"#/jobs/{labelled.id}/images/{worst.image_index}")


def rows(card: Locator, table: str) -> list[list[str]]:
    lines = card.get_by_role("region", name=table).locator("tbody tr").all()
    return [[cell.strip() for cell in row.locator("th, td").all_inner_texts()] for row in lines]


def test_the_report_opens_and_its_figures_are_downloaded(
    console: Console, labelled: Job, evaluated: Evaluation, tmp_path: Path
) -> None:
    page = opened(console, labelled)
    card = page.get_by_role("article", name="truth.json")
    with page.context.expect_page() as opening:
        card.get_by_role("link", name="Open the report").click()
    report = opening.value
    console.watch.hear(report)
    report.reload()  # heard from the start
    expect(report.get_by_role("heading", level=1)).to_be_visible()
    picture = report.locator("img").first
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("(one) => one.decode().then(() => one.naturalWidth)") > 0
    assert report.evaluate("self.origin") == "null"  # nobody's: it cannot use the session
    with page.expect_download() as downloading:
        card.get_by_role("button", name="report.json").click()
    downloading.value.save_as(tmp_path / "report.json")
    assert evaluated.report is not None
    told = json.loads((tmp_path / "report.json").read_text())
    assert told == evaluated.report.model_dump(mode="json")


def test_the_same_truth_again_is_said_to_be_there(
    console: Console, labelled: Job, tmp_path: Path
) -> None:
    page = opened(console, labelled)
    file = file_of(tmp_path, "twice.json", truth_of(range(3)))
    expect(evaluate(page, file)).to_contain_text("Ready")
    evaluate(page, file)
    expect(page.get_by_text("This was compared already")).to_be_visible()
    expect(page.get_by_role("article", name="twice.json")).to_have_count(1)


def test_categories_with_other_names_are_said_to_be_classes(
    console: Console, labelled: Job, tmp_path: Path
) -> None:
    page = opened(console, labelled)
    truth = truth_of(range(8), {"circle": "disc", "star": "Star"})
    file = file_of(tmp_path, "renamed.json", truth)
    card = evaluate(page, file)
    expect(card).to_contain_text("fit no class: disc (")
    card.get_by_role("button", name="Say what they are").click()
    expect(page.get_by_label("Category of the truth")).to_have_value("disc")
    page.get_by_label("Class of disc").fill("circle")
    page.get_by_label("Score from").fill("0.4")
    page.get_by_role("button", name="Evaluate", exact=True).click()  # what is uploaded already
    again = page.get_by_role("article", name="renamed.json").first
    expect(again).to_contain_text("from 0.40 · thresholds looked for · disc is circle")
    expect(again).to_contain_text("8 images compared")
    made, _ = made_of(console, labelled, file)
    assert made.options == {"mapping": {"disc": "circle"}, "min_score": 0.4, "suggest": True}
    assert {row[0] for row in rows(again, "Figures by class")} == {"circle", "star"}


def test_a_file_that_is_no_coco_says_why(console: Console, labelled: Job, tmp_path: Path) -> None:
    page = opened(console, labelled)
    form = page.get_by_role("form", name="New evaluation")
    form.get_by_role("button", name="Evaluate", exact=True).click()
    expect(form.get_by_role("alert")).to_have_text("Choose the file with the truth first.")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.method))
    evaluate(page, file_of(tmp_path, "words.json", "label,x,y"))
    expect(form.get_by_role("alert")).to_contain_text("words.json is no COCO JSON")
    assert set(asked) <= {"GET"}  # nothing was sent
    card = evaluate(page, file_of(tmp_path, "other.json", {"images": [], "categories": []}))
    expect(card).to_contain_text("Failed")
    expect(card).to_contain_text("bad_truth")
    expect(card).to_contain_text("annotations: there is no such list")
    card = evaluate(page, file_of(tmp_path, "cut.json", json.dumps(truth_of(range(2)))[:-200]))
    expect(card).to_contain_text("not COCO instance annotations")


def test_what_the_service_refuses_is_said(console: Console, labelled: Job) -> None:
    console.watch.expected.add(403)
    page = opened(console, labelled)
    page.get_by_role("button", name="Bucket").click()
    page.get_by_label("Address").fill("s3://secrets/truth.json")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    form = page.get_by_role("form", name="New evaluation")
    expect(form.get_by_role("alert")).to_contain_text("s3://secrets")


def test_a_truth_of_other_images_says_so(console: Console, labelled: Job, tmp_path: Path) -> None:
    truth = truth_of(range(3))
    for image in truth["images"]:
        image["file_name"] = f"IMG_{image['id']}.jpg"
    page = opened(console, labelled)
    card = evaluate(page, file_of(tmp_path, "elsewhere.json", truth))
    expect(card).to_contain_text("None of the truth's images has a result in this job.")
    expect(card).to_contain_text("3 images in the truth, not in the job: IMG_0.jpg")
    expect(card).to_contain_text(f"{SCENES} images in the job, not in the truth: scene-00.jpg")
    expect(card.locator(".facts")).to_have_count(0)


def test_an_evaluation_is_deleted(console: Console, labelled: Job, tmp_path: Path) -> None:
    page = opened(console, labelled)
    file = file_of(tmp_path, "away.json", truth_of(range(2)))
    card = evaluate(page, file)
    expect(card).to_contain_text("Ready")
    card.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("article", name="away.json")).to_have_count(0)
    assert made_of(console, labelled, file) == []


@pytest.fixture
def sampled(console: Console, labelled: Job) -> Job:
    """On hold, with some images labelled."""
    held = console.client.create_job(labelled.source, PROMPTS, name="On hold", hold=True)
    console.client.create_preview(held.id, images=SCENES)
    console.client.wait_preview(held.id, timeout_seconds=120)
    return held


def test_what_a_preview_has_labelled_is_compared_by_keyboard_alone(
    console: Console, sampled: Job, tmp_path: Path
) -> None:
    file = file_of(tmp_path, "sample.json", truth_of(range(SCENES)))
    console.page.on("filechooser", lambda chooser: chooser.set_files(file))
    page = opened(console, sampled)
    expect(page.get_by_text("No evaluations yet")).to_be_visible()
    expect(page.get_by_text("The job is on hold")).to_be_visible()
    tab_to(page, "Choose a file")
    page.keyboard.press("Enter")
    expect(page.get_by_text("sample.json, ")).to_be_visible()
    tab_to(page, "Evaluate")
    page.keyboard.press("Enter")
    card = page.get_by_role("article", name="sample.json")
    expect(card).to_contain_text("of a part")
    expect(card).to_contain_text("images compared")
    tab_to(page, "Open the report")


def boxes(images: int) -> dict[str, Any]:
    """A truth that takes seconds: five things in each image that the model `null` makes up."""
    square = {"category_id": 1, "segmentation": [[10, 10, 90, 10, 90, 90, 10, 90]], "iscrowd": 0}
    return {
        "images": [
            {"id": n, "file_name": f"{n:09d}.jpg", "width": 640, "height": 480}
            for n in range(images)
        ],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{"id": n, "image_id": n // 5, **square} for n in range(5 * images)],
    }


def test_one_that_takes_a_while_is_watched_and_canceled(console: Console, tmp_path: Path) -> None:
    source = {"type": "prefix", "uri": f"null://{MANY}"}
    job = console.client.create_job(source, ["thing"], name="Made up", model="null")
    console.client.wait(job.id, timeout_seconds=120)
    page = opened(console, job)
    card = evaluate(page, file_of(tmp_path, "many.json", boxes(MANY)))
    bar = card.get_by_role("progressbar", name="Progress of the evaluation")
    expect(bar).to_be_visible()
    expect(card).to_contain_text(re.compile(f"Reading the truth|of {MANY:,} images"))
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_contain_text("Canceled")
    expect(card.get_by_role("progressbar")).to_have_count(0)


def tab_to(page: Page, name: str) -> None:
    names = []
    for _ in range(40):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.innerText").strip())
        if names[-1] == name:
            return
    raise AssertionError(f"no {name!r} among {names}")
