"""POST /sam3/concept_segment: every form of a body, what the lane is asked, and every refusal."""

import json
from typing import Any

import pytest

from domain.interactive import ConceptAsked, ConceptRequest, ImageAsked
from tests.integration.api.interactive.conftest import PIXEL, PNG, Interactive

PATH = "/sam3/concept_segment"
XYWH = {"x": 1, "y": 2, "width": 3, "height": 4}
XYXY = {"x0": 1, "y0": 2, "x1": 4, "y1": 6}
CORNERS = (1.0, 2.0, 4.0, 6.0)


def asked(interactive: Interactive, **changes: Any) -> ConceptRequest:
    body = {"image": PIXEL, "prompts": [{"text": "dog"}], **changes}
    answer = interactive.post(PATH, body)
    assert answer.status_code == 200, answer.text
    request = interactive.asked()
    assert isinstance(request, ConceptRequest)
    return request


def asked_of(interactive: Interactive, prompt: dict[str, Any]) -> ConceptAsked:
    return asked(interactive, prompts=[prompt]).prompts[0]


def test_a_text_becomes_one_concept_with_defaults(interactive: Interactive) -> None:
    request = asked(interactive)
    assert request.prompts == (ConceptAsked(text="dog", threshold=0.5),)
    assert request.echoes == ({"prompt_index": 0, "type": "text", "text": "dog", "num_boxes": 0},)
    assert (request.format, request.nms_iou_threshold) == ("polygon", None)
    assert request.image == ImageAsked(file=0)
    assert interactive.files() == (PNG,)


BOXES: dict[str, tuple[Any, Any]] = {
    "from the top left corner": (XYWH, CORNERS),
    "by corners": (XYXY, CORNERS),
    "with both, the size counts": ({**XYXY, **XYWH, "x0": 50}, CORNERS),
    "corners the other way round": ({"x0": 4, "y0": 6, "x1": 1, "y1": 2}, CORNERS),
    "of negative size": ({"x": 4, "y": 6, "width": -3, "height": -4}, CORNERS),
    "without area": ({**XYWH, "width": 0, "height": 0}, (1.0, 2.0, 2.0, 3.0)),
    "outside the image": ({**XYWH, "x": -9}, (-9.0, 2.0, -6.0, 6.0)),
    "as text": ({name: str(value) for name, value in XYXY.items()}, CORNERS),
    "with unknown fields": ({**XYXY, "label": 1}, CORNERS),
}


@pytest.mark.parametrize("name", BOXES)
def test_a_box_becomes_sorted_corners(interactive: Interactive, name: str) -> None:
    box, corners = BOXES[name]
    assert asked_of(interactive, {"boxes": [box], "box_labels": [1]}).boxes == (corners,)


@pytest.mark.parametrize(
    ("labels", "meant"),
    [
        ({"box_labels": [1, 0]}, (True, False)),
        ({"box_labels": [False, True]}, (False, True)),
        ({"box_labels": [7, -1]}, (True, True)),
        ({}, (True, True)),
        ({"box_labels": None}, (True, True)),
    ],
)
def test_labels_are_numbers_or_booleans_and_positive_if_absent(
    interactive: Interactive, labels: dict[str, Any], meant: tuple[bool, ...]
) -> None:
    assert asked_of(interactive, {"boxes": [XYWH, XYXY], **labels}).box_labels == meant


def test_no_text_asks_for_the_word_visual_and_is_echoed_as_null(interactive: Interactive) -> None:
    request = asked(interactive, prompts=[{"boxes": [XYWH]}, {}, {"text": ""}])
    assert [prompt.text for prompt in request.prompts] == ["visual", "visual", ""]
    assert request.echoes == (
        {"prompt_index": 0, "type": "visual", "text": None, "num_boxes": 1},
        {"prompt_index": 1, "type": "text", "text": None, "num_boxes": 0},
        {"prompt_index": 2, "type": "text", "text": "", "num_boxes": 0},
    )


def test_presence_of_boxes_decides_not_the_type(interactive: Interactive) -> None:
    prompts = [{"type": "text", "text": "dog", "boxes": [XYWH]}, {"type": "anything"}]
    assert [echo["type"] for echo in asked(interactive, prompts=prompts).echoes] == [
        "visual",
        "text",
    ]


@pytest.mark.parametrize(
    ("request_threshold", "own", "meant"),
    [
        ({}, {}, 0.5),
        ({"output_prob_thresh": None}, {}, 0.5),
        ({"output_prob_thresh": 0}, {}, 0.0),
        ({"output_prob_thresh": "0.25"}, {}, 0.25),
        ({"output_prob_thresh": 0.9}, {"output_prob_thresh": 0.1}, 0.1),
        ({"output_prob_thresh": 0.9}, {"output_prob_thresh": 0}, 0.0),
        ({"output_prob_thresh": 0.9}, {"output_prob_thresh": None}, 0.9),
    ],
)
def test_a_prompts_threshold_comes_before_the_requests_and_zero_is_zero(
    interactive: Interactive, request_threshold: Any, own: Any, meant: float
) -> None:
    request = asked(interactive, prompts=[{"text": "dog", **own}], **request_threshold)
    assert request.prompts[0].threshold == meant


def test_no_threshold_reaches_another_prompt(interactive: Interactive) -> None:
    prompts = [{"text": "a", "output_prob_thresh": 0.1}, {"text": "b"}]
    request = asked(interactive, prompts=prompts, output_prob_thresh=0.9)
    assert [prompt.threshold for prompt in request.prompts] == [0.1, 0.9]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("polygon", "polygon"),
        ("json", "polygon"),
        ("", "polygon"),
        (None, "polygon"),
        ("rle", "rle"),
    ],
)
def test_formats(interactive: Interactive, given: Any, meant: str) -> None:
    assert asked(interactive, format=given).format == meant


def test_other_fields_are_accepted_and_without_effect(interactive: Interactive) -> None:
    usual = asked(interactive)
    fields = {"id": "1", "source": "x", "start": 1.5, "usage_billable": False, "unknown": [1]}
    assert asked(interactive, **fields) == usual
    answer = interactive.post(
        f"{PATH}?countinference=False&service_secret=x&source=y&source_info=z",
        {"image": PIXEL, "prompts": [{"text": "dog", "unknown": 1}]},
    )
    assert (answer.status_code, interactive.asked()) == (200, usual)


@pytest.mark.parametrize("model_id", ["sam3/sam3_final", "sam3/other", "demo-sam3"])
def test_the_base_model_has_several_names(interactive: Interactive, model_id: str) -> None:
    asked(interactive, model_id=model_id)


@pytest.mark.parametrize("model_id", ["my-project/3", "sam3", "", "facebook/sam3"])
def test_other_models_are_not_there(interactive: Interactive, model_id: str) -> None:
    body = {"image": PIXEL, "prompts": [{"text": "dog"}], "model_id": model_id}
    answer = interactive.post(PATH, body)
    assert answer.status_code == 404
    assert answer.json() == {
        "message": "Requested Roboflow resource not found. Make sure that workspace, project or "
        "model you referred in request exists."
    }


def value_error(words: str) -> tuple[str, str]:
    return "value_error", f"Value error, {words}"


FIELD = ("missing", "Field required")
RANGE = value_error("output_prob_thresh must be between 0.0 and 1.0")
BOX_LABELS = value_error("box_labels must match boxes length when provided")
NEEDS_BOX = value_error("Visual prompt requires at least one box")
NAN, INF = float("nan"), float("inf")

# what is sent -> (loc after "body", (type, msg)); None for a msg that is pydantic's alone
REFUSED: dict[str, tuple[dict[str, Any], list[tuple[list[Any], tuple[str, str | None]]]]] = {
    "17 prompts": (
        {"prompts": [{"text": "dog"}] * 17},
        [(["prompts"], value_error("Exceeded SAM3_MAX_PROMPT_BATCH_SIZE=16: got 17"))],
    ),
    "no prompts": (
        {"prompts": []},
        [
            (
                ["prompts"],
                ("too_short", "List should have at least 1 item after validation, not 0"),
            )
        ],
    ),
    "null for prompts": ({"prompts": None}, [(["prompts"], ("list_type", None))]),
    "an object for prompts": ({"prompts": {}}, [(["prompts"], ("list_type", None))]),
    "a prompt of text": ({"prompts": [{}, "dog"]}, [(["prompts", 1], ("model_type", None))]),
    "visual without boxes": (
        {"prompts": [{"type": "visual", "text": "dog"}]},
        [(["prompts", 0, "boxes"], NEEDS_BOX)],
    ),
    "visual with empty boxes": (
        {"prompts": [{"type": "visual", "boxes": []}]},
        [(["prompts", 0, "boxes"], NEEDS_BOX)],
    ),
    "fewer labels than boxes": (
        {"prompts": [{"boxes": [XYWH, XYWH], "box_labels": [1]}]},
        [(["prompts", 0, "box_labels"], BOX_LABELS)],
    ),
    "labels without boxes": (
        {"prompts": [{"text": "dog", "box_labels": []}]},
        [(["prompts", 0, "box_labels"], BOX_LABELS)],
    ),
    "a box with wrong keys": (
        {"prompts": [{"boxes": [{"x": 1, "y": 2, "w": 3, "x0": 4}], "box_labels": [1]}]},
        [
            (["prompts", 0, "boxes", 0, "Box", "width"], FIELD),
            (["prompts", 0, "boxes", 0, "Box", "height"], FIELD),
            (["prompts", 0, "boxes", 0, "BoxXYXY", "y0"], FIELD),
            (["prompts", 0, "boxes", 0, "BoxXYXY", "x1"], FIELD),
            (["prompts", 0, "boxes", 0, "BoxXYXY", "y1"], FIELD),
            (["prompts", 0, "box_labels"], BOX_LABELS),
        ],
    ),
    "a prompt's threshold above 1": (
        {"prompts": [{"output_prob_thresh": 1.01}]},
        [(["prompts", 0, "output_prob_thresh"], RANGE)],
    ),
    "a prompt's threshold of NaN": (
        {"prompts": [{"output_prob_thresh": NAN}]},
        [(["prompts", 0, "output_prob_thresh"], RANGE)],
    ),
    "the threshold above 1": ({"output_prob_thresh": 1.5}, [(["output_prob_thresh"], RANGE)]),
    "the threshold below 0": ({"output_prob_thresh": -1}, [(["output_prob_thresh"], RANGE)]),
    "the threshold of NaN": ({"output_prob_thresh": NAN}, [(["output_prob_thresh"], RANGE)]),
    "an overlap above 1": (
        {"nms_iou_threshold": 1.5},
        [(["nms_iou_threshold"], value_error("nms_iou_threshold must be between 0.0 and 1.0"))],
    ),
    "an unknown format": (
        {"format": "POLYGON"},
        [(["format"], ("literal_error", "Input should be 'polygon', 'json', 'rle' or ''"))],
    ),
    "the binary format": ({"format": "binary"}, [(["format"], ("literal_error", None))]),
    "a format of another type": ({"format": 5}, [(["format"], ("literal_error", None))]),
    "null for the model": ({"model_id": None}, [(["model_id"], ("string_type", None))]),
    "no image": ({"image": ...}, [(["image"], FIELD)]),
    "null for the image": ({"image": None}, [(["image"], ("model_type", None))]),
    "text for the image": ({"image": "abc"}, [(["image"], ("model_type", None))]),
    "a list of images": ({"image": [PIXEL]}, [(["image"], ("model_type", None))]),
    "an image without type": ({"image": {"value": "x"}}, [(["image", "type"], FIELD)]),
    "neither image nor prompts": (
        {"image": ..., "prompts": ...},
        [(["image"], FIELD), (["prompts"], FIELD)],
    ),
    "an infinite coordinate": (
        {"prompts": [{"boxes": [{**XYXY, "x0": INF}]}]},
        [(["prompts", 0, "boxes", 0, "Box", name], FIELD) for name in ("x", "y", "width", "height")]
        + [(["prompts", 0, "boxes", 0, "BoxXYXY", "x0"], ("value_error", None))],
    ),
    "a coordinate of NaN": (
        {"prompts": [{"boxes": [{**XYWH, "x": NAN}]}]},
        [(["prompts", 0, "boxes", 0, "Box", "x"], ("value_error", None))]
        + [
            (["prompts", 0, "boxes", 0, "BoxXYXY", name], FIELD)
            for name in ("x0", "y0", "x1", "y1")
        ],
    ),
    "half a character": (
        {"prompts": [{"text": "a\ud800"}], "image_id": "\udfff"},
        [(["image_id"], ("value_error", None)), (["prompts", 0, "text"], ("value_error", None))],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_at_fault_is_refused_field_by_field(interactive: Interactive, name: str) -> None:
    changes, expected = REFUSED[name]
    body = {"image": PIXEL, "prompts": [{"text": "dog"}], **changes}
    sent = {field: value for field, value in body.items() if value is not ...}
    answer = interactive.post(PATH, content=json.dumps(sent).encode())
    assert answer.status_code == 422, answer.text
    detail = answer.json()["detail"]
    assert [(entry["loc"][1:], entry["type"]) for entry in detail] == [
        (loc, kind) for loc, (kind, _) in expected
    ]
    for entry, (_, (_, words)) in zip(detail, expected, strict=True):
        assert entry["loc"][0] == "body"
        assert words in (None, entry["msg"])
    assert PIXEL["value"] not in answer.text


def test_what_is_missing_does_not_bring_the_body_back(interactive: Interactive) -> None:
    detail = interactive.post(PATH, {"image": PIXEL}).json()["detail"]
    assert detail == [{"type": "missing", "loc": ["body", "prompts"], "msg": "Field required"}]


def test_numbers_at_fault_come_back_texts_do_not(interactive: Interactive) -> None:
    body = {"image": PIXEL, "prompts": [{}], "output_prob_thresh": 7, "nms_iou_threshold": "secret"}
    first, second = interactive.post(PATH, body).json()["detail"]
    assert (first["input"], first["ctx"]) == (7, {"error": {}})
    assert "input" not in second


def test_a_query_parameter_at_fault_is_named(interactive: Interactive) -> None:
    answer = interactive.post(f"{PATH}?countinference=maybe", {"image": PIXEL, "prompts": [{}]})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "countinference"]


@pytest.mark.parametrize("field", ["boxes", "box_labels"])
def test_of_boxes_that_are_too_many_together_none_is_looked_at(
    interactive: Interactive, field: str
) -> None:
    prompts = [{field: [{}] * 500}, {"text": "dog"}, {field: [{}] * 501}]
    answer = interactive.post(PATH, {"image": PIXEL, "prompts": prompts})
    assert answer.status_code == 422
    (entry,) = answer.json()["detail"]
    assert entry["loc"] == ["body", "prompts"]
    assert entry["msg"].endswith(f"All prompts may have 1000 {field} together, not 1001")


def test_a_thousand_boxes_of_all_prompts_are_taken(interactive: Interactive) -> None:
    prompts = [{"boxes": [XYXY] * 500, "box_labels": [1] * 500}] * 2
    assert len(asked(interactive, prompts=prompts).prompts[1].boxes) == 500


def test_of_many_faults_fifty_are_told_in_short(interactive: Interactive) -> None:
    prompts = [{"boxes": [{"x" * 400: 1}] * 1000}]
    answer = interactive.post(PATH, {"image": PIXEL, "prompts": prompts})
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) == 50
    assert len(answer.content) < 50_000
