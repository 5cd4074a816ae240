"""Roboflow's own client, and requests by hand that it does not make, against the whole service."""

import asyncio
import base64
import io
import re
from typing import Any

import httpx
import numpy as np
import pytest
from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError
from PIL import Image

from maskmill.client import Client
from maskmill.embedded import EmbeddedStack
from maskmill.sample_scenes import Scene, SceneObject, draw_scene
from tests.acceptance.roboflow import (
    MARKS,
    OBJECT,
    SCENE,
    centred,
    encoded,
    expect_found,
    named,
    of_polygons,
    of_rle,
    overlap,
)

pytestmark = MARKS


@pytest.mark.parametrize("transport", ["legacy", "both", "header"])
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_a_concept_is_found_with_every_way_of_sending_the_key(
    sdk: InferenceHTTPClient, transport: str, version: str
) -> None:
    sdk.configure(InferenceConfiguration(api_key_transport=transport))
    client = sdk.select_api_v0() if version == "v0" else sdk.select_api_v1()
    answer = client.sam3_concept_segment(
        SCENE.image, [{"type": "text", "text": OBJECT.name}], format="rle"
    )
    (result,) = answer["prompt_results"]
    assert result["echo"] == {
        "prompt_index": 0,
        "type": "text",
        "text": OBJECT.name,
        "num_boxes": 0,
    }
    expect_found(result["predictions"], named(OBJECT.name))
    assert all(0.5 <= prediction["confidence"] <= 1 for prediction in result["predictions"])


def test_sixteen_prompts_come_back_in_their_order(sdk: InferenceHTTPClient) -> None:
    colours = ("red", "green", "blue", "yellow")
    texts = [f"{c} {s}" for c in colours for s in ("circle", "square", "triangle", "star")]
    answer = sdk.sam3_concept_segment(
        np.asarray(SCENE.image)[:, :, ::-1], [{"text": text} for text in texts], format="rle"
    )
    results = answer["prompt_results"]
    assert [result["prompt_index"] for result in results] == list(range(16))
    assert [result["echo"]["text"] for result in results] == texts
    for text, result in zip(texts, results, strict=True):
        expect_found(result["predictions"], named(text))


def test_polygons_and_run_lengths_say_the_same(sdk: InferenceHTTPClient) -> None:
    prompts = [{"text": thing.name} for thing in SCENE.objects if thing.shape != "ring"]
    by_rle, by_polygon = (
        sdk.sam3_concept_segment(SCENE.image, prompts, format=form) for form in ("rle", "polygon")
    )
    pairs = zip(by_rle["prompt_results"], by_polygon["prompt_results"], strict=True)
    for one, other in pairs:
        for rle, polygon in zip(one["predictions"], other["predictions"], strict=True):
            assert rle["confidence"] == polygon["confidence"]
            assert (rle["format"], polygon["format"]) == ("rle", "polygon")
            outlined = of_polygons(polygon["masks"], SCENE.image.size)
            assert overlap(of_rle(rle["masks"]), outlined) > 0.98
            assert all(type(n) is int for part in polygon["masks"] for p in part for n in p)


@pytest.mark.parametrize("labels", [[1, 0], [True, False]])
@pytest.mark.parametrize("form", ["xywh", "xyxy"])
def test_exemplar_boxes_find_more_of_the_kind(
    http: httpx.Client, labels: list[Any], form: str
) -> None:
    scene, wanted, other = scene_with_twins()
    boxes = [box_of(wanted[0], form), box_of(other, form)]
    answer = http.post(
        "/sam3/concept_segment",
        json={
            "image": encoded(scene),
            "format": "rle",
            "prompts": [{"type": "visual", "boxes": boxes, "box_labels": labels}],
        },
    ).json()
    (result,) = answer["prompt_results"]
    assert result["echo"] == {"prompt_index": 0, "type": "visual", "text": None, "num_boxes": 2}
    expect_found(result["predictions"], wanted)


def scene_with_twins() -> tuple[Scene, list[SceneObject], SceneObject]:
    """A scene, two objects of one name in it, and one of another."""
    scene = draw_scene(41)
    (name,) = {t.name for t in scene.objects if len(named(t.name, scene)) == 2}
    return scene, named(name, scene), next(t for t in scene.objects if t.name != name)


def box_of(thing: SceneObject, form: str) -> dict[str, float]:
    x0, y0, x1, y1 = thing.box
    if form == "xyxy":
        return {"x0": x0, "y0": y0, "x1": x1, "y1": y1}
    return {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}


def test_a_click_gives_the_clicked_object(sdk: InferenceHTTPClient) -> None:
    for thing in SCENE.objects:
        x, y = thing.centre
        answer = sdk.sam3_visual_segment(
            SCENE.image,
            prompts=[{"points": [{"x": x, "y": y, "positive": True}]}],
            mask_input_format="rle",
        )
        (prediction,) = answer["predictions"]
        assert overlap(of_rle(prediction["masks"]), thing.mask) > 0.8, thing.name


def test_several_prompts_with_and_without_a_box_are_all_answered(sdk: InferenceHTTPClient) -> None:
    one, other = SCENE.objects[:2]
    x, y = other.centre
    answer = sdk.sam3_visual_segment(
        SCENE.image,
        prompts=[
            {"box": centred(one)},
            {"points": [{"x": x, "y": y, "positive": 1}]},
            {"box": centred(other), "points": [{"x": x, "y": y, "positive": True}]},
        ],
        mask_input_format="rle",
    )
    masks = [of_rle(prediction["masks"]) for prediction in answer["predictions"]]
    for mask, thing in zip(masks, (one, other, other), strict=True):
        assert overlap(mask, thing.mask) > 0.8, thing.name


def test_the_forms_of_prompts_say_the_same(http: httpx.Client) -> None:
    prompt = {"box": centred(OBJECT)}
    forms: list[Any] = [{"prompts": [prompt]}, [prompt], prompt]
    answers = [
        http.post("/sam3/visual_segment", json={"image": encoded(SCENE), "prompts": form}).json()[
            "predictions"
        ]
        for form in forms
    ]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0]["format"] == "polygon"


def test_no_prompt_at_all_gets_one_prediction(sdk: InferenceHTTPClient) -> None:
    assert len(sdk.sam3_visual_segment(SCENE.image)["predictions"]) == 1


def test_an_embedded_image_is_used_by_its_id_alone(
    sdk: InferenceHTTPClient, http: httpx.Client
) -> None:
    assert sdk.sam3_embed_image(SCENE.image, image_id="mine")["image_id"] == "mine"
    x, y = OBJECT.centre
    click = {"points": [{"x": x, "y": y, "positive": True}]}
    body = {"image_id": "mine", "prompts": [click], "format": "rle"}
    (prediction,) = http.post("/sam3/visual_segment", json=body).json()["predictions"]
    assert overlap(of_rle(prediction["masks"]), OBJECT.mask) > 0.8
    concept = {"image_id": "mine", "prompts": [{"text": OBJECT.name}], "format": "rle"}
    (result,) = http.post("/sam3/concept_segment", json=concept).json()["prompt_results"]
    expect_found(result["predictions"], named(OBJECT.name))
    hits = re.search(
        r"^\w*embedding\w*hit\w* ([1-9]\d*)", http.get("/metrics").text, flags=re.MULTILINE
    )
    assert hits, "the second request ran the ViT again"


def test_the_same_image_gets_the_same_id(sdk: InferenceHTTPClient) -> None:
    first, second = (sdk.sam3_embed_image(SCENE.image)["image_id"] for _ in range(2))
    other = sdk.sam3_embed_image(draw_scene(35).image)["image_id"]
    assert first == second != other
    assert re.fullmatch(r"[0-9a-f]{40}", first)


def test_a_new_image_under_an_old_id_replaces_it(http: httpx.Client) -> None:
    old, new = draw_scene(35), draw_scene(58)
    for scene in (old, new):
        thing = scene.objects[0]
        body = {"image": encoded(scene), "image_id": "slot", "format": "rle"}
        answer = http.post(
            "/sam3/visual_segment", json={**body, "prompts": {"box": centred(thing)}}
        )
        (prediction,) = answer.json()["predictions"]
        assert overlap(of_rle(prediction["masks"]), thing.mask) > 0.8


def test_an_id_is_its_keys_own_and_ends_with_clear(
    clicks_stack: EmbeddedStack, http: httpx.Client
) -> None:
    with Client(clicks_stack.url, clicks_stack.api_key) as client:
        other = client.create_key("other").secret
    body = {"image_id": "private", "prompts": {"box": centred(OBJECT)}}
    http.post("/sam3/embed_image", json={"image": encoded(SCENE), "image_id": "private"})
    stranger = httpx.post(
        f"{clicks_stack.url}/sam3/visual_segment", params={"api_key": other}, json=body, timeout=60
    )
    assert stranger.status_code == 404
    assert stranger.json()["message"]
    assert http.post("/sam3/visual_segment", json=body).status_code == 200
    assert http.post("/model/clear", json={}).is_success
    assert http.post("/sam3/visual_segment", json=body).status_code == 404


def test_binary_masks_come_as_npz(http: httpx.Client) -> None:
    body = {"image": encoded(SCENE), "prompts": {"box": centred(OBJECT)}, "format": "binary"}
    answer = http.post("/sam3/visual_segment", json=body)
    assert answer.headers["content-type"] == "application/octet-stream"
    arrays = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert overlap(arrays["masks"][0].astype(bool), OBJECT.mask) > 0.8
    assert arrays["low_res_masks"].ndim == 3


def test_more_clicks_go_on_from_the_logits_that_were_saved(http: httpx.Client) -> None:
    x, y = OBJECT.centre
    first = {"points": [{"x": x, "y": y, "positive": True}]}
    far = SCENE.objects[1].centre
    more = {"points": [*first["points"], {"x": far[0], "y": far[1], "positive": False}]}
    body: dict[str, Any] = {"image": encoded(SCENE), "image_id": "refined", "format": "rle"}
    http.post("/sam3/visual_segment", json={**body, "prompts": first, "save_logits_to_cache": True})
    plain, refined = (
        http.post(
            "/sam3/visual_segment", json={**body, "prompts": more, "load_logits_from_cache": load}
        ).json()["predictions"][0]
        for load in (False, True)
    )
    assert plain["confidence"] != refined["confidence"]
    assert overlap(of_rle(refined["masks"]), OBJECT.mask) > 0.8


def test_orientation_is_applied(http: httpx.Client) -> None:
    """Turned pixels with the tag that turns them back: answers are those of the upright image."""
    turned, exif = SCENE.image.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "PNG", exif=exif)
    image = {"type": "base64", "value": base64.b64encode(buffer.getvalue()).decode()}
    body = {"image": image, "prompts": [{"text": OBJECT.name}], "format": "rle"}
    (result,) = http.post("/sam3/concept_segment", json=body).json()["prompt_results"]
    expect_found(result["predictions"], named(OBJECT.name))


def test_a_list_of_images_and_the_async_methods(sdk: InferenceHTTPClient) -> None:
    images = [draw_scene(seed).image for seed in (56, 35)]
    answers = sdk.sam3_concept_segment(images, [{"text": "circle"}])
    assert len(answers) == 2

    async def ask() -> list[Any]:
        prompts = [{"text": OBJECT.name}]
        return [
            await sdk.sam3_concept_segment_async(SCENE.image, prompts, format="rle"),
            await sdk.sam3_visual_segment_async(SCENE.image, [{"box": centred(OBJECT)}]),
            await sdk.sam3_embed_image_async(SCENE.image, image_id="later"),
        ]

    concept, visual, embedded = asyncio.run(ask())
    expect_found(concept["prompt_results"][0]["predictions"], named(OBJECT.name))
    assert len(visual["predictions"]) == 1
    assert embedded["image_id"] == "later"


def test_what_is_refused_reaches_the_user_in_words(
    clicks_stack: EmbeddedStack, sdk: InferenceHTTPClient
) -> None:
    with pytest.raises(HTTPCallErrorError) as bad_image:
        sdk.sam3_embed_image(base64.b64encode(b"no image").decode())
    assert bad_image.value.status_code == 400
    assert "Could not load input image" in str(bad_image.value)
    with pytest.raises(HTTPCallErrorError) as too_many:
        sdk.sam3_concept_segment(SCENE.image, [{"text": "a"}] * 17)
    assert too_many.value.status_code == 422
    assert "SAM3_MAX_PROMPT_BATCH_SIZE" in str(too_many.value)
    stranger = InferenceHTTPClient(api_url=clicks_stack.url, api_key="mm_wrong")
    with pytest.raises(HTTPCallErrorError) as unauthorized:
        stranger.sam3_embed_image(SCENE.image)
    assert unauthorized.value.status_code == 401
    with pytest.raises(HTTPCallErrorError) as unknown:
        sdk.sam3_concept_segment(SCENE.image, [{"text": "a"}], model_id="someone/else")
    assert unknown.value.status_code == 404


def test_the_client_reads_who_it_talks_to(sdk: InferenceHTTPClient) -> None:
    info = sdk.get_server_info()
    assert (info.name, bool(info.version), bool(info.uuid)) == ("maskmill", True, True)
