"""POST /sam3/visual_segment and /sam3/embed_image: what the lane is asked, and every refusal."""

import json
from typing import Any

import pytest

from domain.interactive import EmbedRequest, ImageAsked, ObjectAsked, PointAsked, VisualRequest
from tests.integration.api.interactive.conftest import PIXEL, PNG, Interactive

PATH = "/sam3/visual_segment"
EMBED = "/sam3/embed_image"
POINT = {"x": 1, "y": 2, "positive": True}
BOX = {"x": 10, "y": 20, "width": 4, "height": 6}
CLICKED = ObjectAsked(points=(PointAsked(x=1, y=2, positive=True),))
BOXED = ObjectAsked(box=(8.0, 17.0, 12.0, 23.0))
NOTHING = ObjectAsked()
FIELD = ("missing", "Field required")


def asked(interactive: Interactive, **body: Any) -> VisualRequest:
    answer = interactive.post(PATH, {"image": PIXEL, **body})
    assert answer.status_code == 200, answer.text
    request = interactive.asked()
    assert isinstance(request, VisualRequest)
    return request


def test_an_image_alone_asks_for_one_object_of_which_nothing_is_said(
    interactive: Interactive,
) -> None:
    assert asked(interactive) == VisualRequest(
        image=ImageAsked(file=0), prompts=(NOTHING,), multimask_output=True, format="polygon"
    )
    assert interactive.files() == (PNG,)


FORMS: dict[str, tuple[Any, tuple[ObjectAsked, ...]]] = {
    "a set": ({"prompts": [{"points": [POINT]}, {"box": BOX}]}, (CLICKED, BOXED)),
    "a list": ([{"points": [POINT]}, {"box": BOX}], (CLICKED, BOXED)),
    "a single prompt": ({"points": [POINT]}, (CLICKED,)),
    "a single box": ({"box": BOX}, (BOXED,)),
    "box and points": (
        [{"box": BOX, "points": [POINT]}],
        (ObjectAsked(box=BOXED.box, points=CLICKED.points),),
    ),
    "with and without a box": ([{"box": BOX}, {"points": [POINT]}, {}], (BOXED, CLICKED, NOTHING)),
    "seventeen": ([{"points": [POINT]}] * 17, (CLICKED,) * 17),
    "null": (None, (NOTHING,)),
    "an empty list": ([], (NOTHING,)),
    "an empty object": ({}, (NOTHING,)),
    "a set of none": ({"prompts": []}, (NOTHING,)),
    "a set of null": ({"prompts": None}, (NOTHING,)),
    "an empty prompt": ([{}], (NOTHING,)),
    "unknown keys only": ({"unknown": 1}, (NOTHING,)),
    "nulls": ([{"box": None, "points": None}], (NOTHING,)),
    "a box without area": (
        {"box": {**BOX, "width": 0, "height": 0}},
        (ObjectAsked(box=(10.0, 20.0, 11.0, 21.0)),),
    ),
    "a box of negative size": ({"box": {**BOX, "width": -4, "height": -6}}, (BOXED,)),
    "only what it is not": (
        {"points": [{**POINT, "positive": "no"}]},
        (ObjectAsked(points=(PointAsked(x=1, y=2, positive=False),)),),
    ),
    "a point outside the image, as numbers and texts": (
        {"points": [{"x": "-5", "y": 1e6, "positive": 1}]},
        (ObjectAsked(points=(PointAsked(x=-5, y=1e6, positive=True),)),),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_prompts_come_in_many_forms(interactive: Interactive, name: str) -> None:
    prompts, meant = FORMS[name]
    assert asked(interactive, prompts=prompts).prompts == meant


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        *((name, "polygon") for name in ("json", "polygon", None)),
        *((name, name) for name in ("rle", "binary")),
    ],
)
def test_formats(interactive: Interactive, given: Any, meant: str) -> None:
    assert asked(interactive, format=given).format == meant


def test_options_reach_the_worker_and_ignored_ones_do_not(interactive: Interactive) -> None:
    request = asked(
        interactive,
        multimask_output=False,
        save_logits_to_cache=True,
        load_logits_from_cache="true",
        sam2_version_id="any",
        model_id="any",
        unknown=[],
    )
    assert (request.multimask_output, request.save_logits, request.load_logits) == (
        False,
        True,
        True,
    )


@pytest.mark.parametrize("path", [PATH, EMBED, "/sam3/concept_segment"])
def test_an_id_with_an_image_names_it(interactive: Interactive, path: str) -> None:
    interactive.post(path, {"image": PIXEL, "image_id": "mine", "prompts": [{}]})
    assert (interactive.asked().image, interactive.files()) == (  # type: ignore[union-attr]
        ImageAsked(file=0, image_id="mine"),
        (PNG,),
    )


@pytest.mark.parametrize("stub", [{"image": {"type": "base64"}}, {"image": {"type": "url"}}, {}])
@pytest.mark.parametrize("path", [PATH, "/sam3/concept_segment"])
def test_an_id_alone_stands_for_the_image_kept(
    interactive: Interactive, path: str, stub: dict[str, Any]
) -> None:
    answer = interactive.post(path, {**stub, "image_id": "mine", "prompts": [{}]})
    assert answer.status_code == 200, answer.text
    assert interactive.asked().image == ImageAsked(image_id="mine")  # type: ignore[union-attr]
    assert interactive.files() == ()


def test_embedding_wants_an_image(interactive: Interactive) -> None:
    answer = interactive.post(EMBED, {"image": PIXEL, "format": "rle"})
    assert answer.json() == {"image_id": "0" * 40, "time": 0.1}
    assert interactive.asked() == EmbedRequest(image=ImageAsked(file=0))
    missing = interactive.post(EMBED, {"image_id": "mine"})
    assert missing.status_code == 422
    assert missing.json()["detail"] == [
        {"type": "missing", "loc": ["body", "image"], "msg": "Field required"}
    ]


ENTRY = ("value_error", "Value error, Invalid prompt entry; expected dict or Sam2Prompt instance")
REFUSED: dict[str, tuple[dict[str, Any], list[Any], tuple[str, str | None]]] = {
    "a point without positive, in a list": (
        {"prompts": [{"points": [{"x": 1, "y": 2}]}]},
        ["prompts", "points", 0, "positive"],
        FIELD,
    ),
    "a point without positive, in a set": (
        {"prompts": {"prompts": [{"points": [{"x": 1, "y": 2}]}]}},
        ["prompts", "prompts", 0, "points", 0, "positive"],
        FIELD,
    ),
    "an entry that is no object": ({"prompts": [{}, "dog"]}, ["prompts"], ENTRY),
    "an entry that is no object, in a set": (
        {"prompts": {"prompts": [{"points": [POINT]}, 1]}},
        ["prompts"],
        ENTRY,
    ),
    "a number as the only entry": ({"prompts": [1]}, ["prompts"], ENTRY),
    "text for prompts": ({"prompts": "dog"}, ["prompts"], ("model_type", None)),
    "a number for prompts": ({"prompts": 5}, ["prompts"], ("model_type", None)),
    "a set of another type": (
        {"prompts": {"prompts": "x"}},
        ["prompts", "prompts"],
        ("list_type", None),
    ),
    "a box by corners": (
        {"prompts": [{"box": {"x": 0, "y": 0, "x1": 1, "height": 1}}]},
        ["prompts", "box", "width"],
        FIELD,
    ),
    "an infinite coordinate": (
        {"prompts": [{"points": [{**POINT, "x": float("inf")}]}]},
        ["prompts", "points", 0, "x"],
        ("value_error", None),
    ),
    "a box beyond all numbers": (
        {"prompts": [{"box": {**BOX, "width": 1e308}}]},
        ["prompts", "box", "width"],
        ("value_error", None),
    ),
    "1001 prompts": ({"prompts": [{}] * 1001}, ["prompts", "prompts"], ("too_long", None)),
    "1001 points": (
        {"prompts": {"points": [POINT] * 1001}},
        ["prompts", "points"],
        ("too_long", None),
    ),
    "10,001 points of all prompts, each of them wrong": (
        {"prompts": [{"points": [{}] * 73}] * 137},
        ["prompts"],
        ("value_error", "Value error, All prompts may have 10000 points together, not 10001"),
    ),
    "10,001 points of all prompts in an object": (
        {"prompts": {"prompts": [{"points": [POINT] * 73}] * 137}},
        ["prompts"],
        ("value_error", "Value error, All prompts may have 10000 points together, not 10001"),
    ),
    "an unknown format": (
        {"format": "png"},
        ["format"],
        ("literal_error", "Input should be 'json', 'polygon', 'rle' or 'binary'"),
    ),
    "null for a switch": ({"multimask_output": None}, ["multimask_output"], ("bool_type", None)),
    "no image": ({"image": ...}, ["image"], FIELD),
    "null for the image": ({"image": None}, ["image"], ("model_type", None)),
    "a list of images": ({"image": [PIXEL]}, ["image"], ("model_type", None)),
    "a number for the id": ({"image_id": 5}, ["image_id"], ("string_type", None)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_at_fault_is_refused(interactive: Interactive, name: str) -> None:
    changes, loc, (kind, words) = REFUSED[name]
    sent = {field: v for field, v in {"image": PIXEL, **changes}.items() if v is not ...}
    answer = interactive.post(PATH, content=json.dumps(sent).encode())
    assert answer.status_code == 422, answer.text
    (entry,) = answer.json()["detail"]
    assert (entry["loc"], entry["type"]) == (["body", *loc], kind)
    assert words in (None, entry["msg"])
    assert PIXEL["value"] not in answer.text


def test_ten_thousand_points_are_taken(interactive: Interactive) -> None:
    body = {"image": PIXEL, "prompts": [{"points": [POINT] * 10}] * 1000}
    answer = interactive.post(PATH, body)
    assert answer.status_code == 200, answer.text
