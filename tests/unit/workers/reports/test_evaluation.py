import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from domain.evaluation.compared_images import ComparedImage, JudgedMask, Verdict, worst_compared
from domain.evaluation.documents import EvaluationOptions, EvaluationReport
from domain.evaluation.evaluate import evaluate
from tests.unit.domain.evaluation.cases import (
    Case,
    Found,
    Wanted,
    box,
    name_of,
    read,
    rle,
    source_of,
    truth_document,
)
from tests.unit.workers.reports.pages import Page, assert_self_contained
from workers.reports.evaluation import ComparedPicture, draw_compared, evaluation_page

SQUARE, ELSEWHERE = box(0, 0, 10, 10), box(15, 5, 10, 10)
RIGHT = Case([Found(SQUARE, 0.9)], [Wanted(SQUARE)])
BAD = Case([Found(ELSEWHERE, 0.8)], [Wanted(SQUARE)])
HOSTILE = '<script>alert("1")</script>&"\'><img src=x onerror=alert(1)>'


def made(
    images: Sequence[Case],
    prompts: Mapping[str, str] | Sequence[str] = ("star",),
    *,
    document: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[EvaluationReport, list[ComparedPicture]]:
    source = source_of(images, prompts)
    truth = read(document or truth_document(images, source.info.classes), source.info.classes)
    report = evaluate(source, truth, options=EvaluationOptions(**options), note=lambda: None)
    worst = worst_compared(source, truth, report, note=lambda: None)
    return report, list(draw_compared(worst, lambda image: photo()))


def photo() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 20), (40, 160, 60)).save(out, "PNG")
    return out.getvalue()


def page_of(images: Sequence[Case], prompts: Any = ("star",), **options: Any) -> Page:
    report, pictures = made(images, prompts, **options)
    return Page(evaluation_page(report, pictures))


def words(page: Page) -> str:
    return re.sub(r"\s+", " ", page.text)


def test_a_page_holds_all_that_it_shows() -> None:
    report, pictures = made([RIGHT, BAD, Case()], ["star", "ring"])
    html = evaluation_page(report, pictures)
    assert_self_contained(html)
    assert len(Page(html).all("img")) == 2


def test_names_are_shown_as_text() -> None:
    images = [BAD, Case(), Case()]
    document = truth_document(images, [HOSTILE])
    document["categories"].append({"id": 9, "name": HOSTILE + "2"})
    document["images"][2]["file_name"] = HOSTILE
    report, pictures = made(images, {HOSTILE + "1": HOSTILE}, document=document)
    worst = [one.model_copy(update={"image": HOSTILE}) for one in report.worst]
    html = evaluation_page(report.model_copy(update={"worst": worst}), pictures)
    assert_self_contained(html)
    assert "<script" not in html
    shown = words(Page(html))
    for name in (HOSTILE, HOSTILE + "1", f"class {HOSTILE}", HOSTILE + "2 (0)"):
        assert name in shown


def test_figures_are_those_of_the_report() -> None:
    report, pictures = made([RIGHT, RIGHT, BAD, Case()])
    shown = words(Page(evaluation_page(report, pictures)))
    (prompt,) = report.prompts
    assert prompt.suggestion is not None
    at = prompt.suggestion.figures
    for figures in (
        (prompt.concept.cg_f1, prompt.concept.pm_f1, prompt.concept.il_mcc),
        (at.precision, at.recall, at.f1, prompt.at_min_score.f1),
        (report.overall.precision.ap, report.overall.precision.ap50),
    ):
        assert " ".join(f"{figure:.3f}" for figure in figures) in shown
    assert f"{prompt.threshold:g} suggested" in shown
    assert "on 4 images that both have" in shown


def test_what_cannot_be_had_is_a_dash() -> None:
    shown = words(page_of([Case()]))
    assert "nan" not in shown.lower()
    assert "None" not in shown
    assert "–" in shown
    assert "Without annotations there is no threshold to suggest." in shown


def test_it_says_why_there_is_no_threshold() -> None:
    assert "No instance is right, so there is no threshold" in words(page_of([BAD]))
    assert "No threshold was asked for." in words(page_of([BAD], suggest=False))


def test_it_tells_what_was_not_compared() -> None:
    images = [RIGHT, RIGHT, BAD, Case()]
    document = truth_document(images, ["star"])
    document["images"][1]["file_name"] = "somewhere else.png"
    document["images"][2]["file_name"] = f"folder/{name_of(2)}"
    document["images"][3]["width"] += 1
    document["categories"].append({"id": 2, "name": "boot"})
    shown = words(page_of(images, ["star", "ring"], document=document))
    assert "1 image of the truth not in the job" in shown
    assert "Not compared: somewhere else.png." in shown
    assert "1 image compared by the end of the path" in shown
    assert f"as the truth has them: {name_of(2)} = folder/{name_of(2)}." in shown
    assert "1 image of another size than the truth says" in shown
    assert "boot (0). Map them to classes" in shown
    assert "1 class without truth" in shown
    assert "Not evaluated: ring." in shown


def test_it_says_that_nothing_is_compared() -> None:
    document = truth_document([RIGHT], ["star"])
    document["images"][0]["file_name"] = "b.png"
    shown = words(page_of([RIGHT], document=document))
    assert "No image is compared" in shown
    assert "There is none to show." in shown


def test_it_warns_of_thresholds_from_few_annotations() -> None:
    assert "1 threshold from few annotations" in words(page_of([RIGHT] * 19))
    assert "from few annotations" not in words(page_of([RIGHT] * 20))


def test_it_says_why_there_is_no_il_mcc() -> None:
    told = "No IL_MCC and cgF1 of 1 prompt"
    assert told in words(page_of([RIGHT]))
    assert told not in words(page_of([RIGHT, Case()]))


def test_a_good_result_has_no_worst_images() -> None:
    assert "No image has an error at IoU 0.5." in words(page_of([RIGHT, Case()]))


def test_worst_images_tell_their_errors_by_prompt() -> None:
    image = Case([Found(ELSEWHERE, 0.9, 1)], [Wanted(SQUARE, 0), Wanted(box(0, 12, 6, 6), 0)])
    page = page_of([image, RIGHT], ["star", "ring"])
    shown = words(page)
    assert "star: 2 missed" in shown
    assert "ring: 1 wrong" in shown
    assert [one["alt"] for one in page.all("img")] == [
        f"{name_of(0)} with its annotations",
        f"{name_of(0)} with what was found",
    ]


def test_worst_images_without_a_picture_are_left_out() -> None:
    report, pictures = made([BAD, BAD])
    page = Page(evaluation_page(report, pictures[1:]))
    assert len(page.all("img")) == 2
    assert name_of(1) in page.text


@pytest.mark.parametrize("content", [photo(), b"no image", None])
def test_right_and_wrong_masks_have_colours_of_their_own(content: bytes | None) -> None:
    image = ComparedImage(
        7,
        "a.png",
        (JudgedMask(rle(SQUARE), Verdict.RIGHT), JudgedMask(rle(ELSEWHERE), Verdict.WRONG)),
        (),
    )
    (picture,) = draw_compared([image], lambda asked: content)
    truth = np.asarray(Image.open(io.BytesIO(picture.truth))).astype(int)
    assert picture.image_index == 7
    right, wrong = truth[80, 80], truth[160, 320]  # inside the masks, at 16 times their size
    assert right[2] > right[0]
    assert wrong[0] > wrong[2]


def test_what_is_wrong_is_drawn_over_what_is_right() -> None:
    masks = (JudgedMask(rle(SQUARE), Verdict.WRONG), JudgedMask(rle(SQUARE), Verdict.RIGHT))
    (picture,) = draw_compared([ComparedImage(0, "a", masks, masks[:1])], lambda asked: photo())
    drawn = np.asarray(Image.open(io.BytesIO(picture.truth))).astype(int)[80, 80]
    assert drawn[0] > drawn[2]
