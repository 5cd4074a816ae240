"""What workflows find and answer, with the demo network."""

import base64
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskmill.sample_scenes import draw_scene
from tests.unit.domain.workflows.documents import (
    IMAGE,
    output,
    parameter,
    sam,
    specification,
)
from tests.unit.workers.interactive.workflows import (
    MAX_PIXELS,
    NAMES,
    PREDICTIONS,
    SCENE,
    answered,
    predicted,
    refusal,
    the_object,
)
from workers.interactive.segmenter import Segmenter


def test_the_first_version_answers_polygons_of_the_right_objects(segmenter: Segmenter) -> None:
    answer = predicted(segmenter, sam(1, class_names=NAMES))

    assert answer["image"] == {"width": 256, "height": 256}
    assert {id(the_object(one)) for one in answer["predictions"]} == set(map(id, SCENE.objects))
    for one in answer["predictions"]:
        assert list(one) == [
            *("width", "height", "x", "y", "confidence", "class_id", "points", "class"),
            *("detection_id", "parent_id"),
        ]
        assert one["class"] == NAMES[one["class_id"]]
        assert one["parent_id"] == "image"
        xs, ys = ([point[axis] for point in one["points"]] for axis in "xy")
        assert (one["width"], one["height"]) == (max(xs) - min(xs), max(ys) - min(ys))
        assert (one["x"], one["y"]) == ((max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2)
    assert len({one["detection_id"] for one in answer["predictions"]}) == len(SCENE.objects)


def test_the_third_version_answers_run_lengths_of_the_right_objects(segmenter: Segmenter) -> None:
    answer = predicted(segmenter, sam(3, class_names=NAMES))

    assert len(answer["predictions"]) == len(SCENE.objects)
    for one in answer["predictions"]:
        mask = coco_mask.decode(one["rle_mask"]).astype(bool)
        truth = the_object(one).mask
        assert (mask & truth).sum() / (mask | truth).sum() > 0.8
        x, y, width, height = coco_mask.toBbox(one["rle_mask"])
        assert (one["width"], one["height"]) == (width, height)
        assert (one["x"], one["y"]) == (x + width / 2, y + height / 2)
        assert "points" not in one


def test_a_string_of_class_names_asks_the_same_as_a_list(segmenter: Segmenter) -> None:
    as_list = predicted(segmenter, sam(1, class_names=NAMES))["predictions"]
    as_text = predicted(segmenter, sam(1, class_names=", ".join(NAMES)))["predictions"]

    for one in as_list + as_text:
        del one["detection_id"]
    assert as_text == as_list


def test_polygons_of_the_third_version_are_those_of_the_second(segmenter: Segmenter) -> None:
    third = predicted(segmenter, sam(3, class_names=NAMES, output_format="polygons"))
    second = predicted(segmenter, sam(2, class_names=NAMES))

    assert [one["points"] for one in third["predictions"]] == [
        one["points"] for one in second["predictions"]
    ]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_where_nothing_is_found_the_size_is_told_all_the_same(
    segmenter: Segmenter, version: int
) -> None:
    answer = predicted(segmenter, sam(version, class_names=["purple ring"]))

    assert answer == {"image": {"width": 256, "height": 256}, "predictions": []}


def test_without_class_names_the_class_is_foreground(segmenter: Segmenter) -> None:
    found = predicted(segmenter, sam(1, class_names=[], threshold=0))["predictions"]

    assert found
    assert {(one["class"], one["class_id"]) for one in found} == {("foreground", 0)}


def test_of_overlapping_instances_the_earlier_class_stays(segmenter: Segmenter) -> None:
    twice = [NAMES[0], NAMES[0]]

    all_of_them = predicted(segmenter, sam(1, class_names=twice))["predictions"]
    without = predicted(segmenter, sam(3, class_names=twice))["predictions"]
    kept = predicted(segmenter, sam(3, class_names=twice, apply_nms=False))["predictions"]

    assert [one["class_id"] for one in all_of_them].count(1) == len(all_of_them) / 2
    assert len(without) == len(all_of_them) / 2
    assert {one["class_id"] for one in without} == {0}
    assert len(kept) == len(all_of_them)


def test_a_class_has_a_confidence_of_its_own(segmenter: Segmenter) -> None:
    step = sam(2, class_names=NAMES, per_class_confidence=[0.1, *[1.0] * (len(NAMES) - 1)])

    found = predicted(segmenter, step)["predictions"]

    assert {one["class"] for one in found} == {NAMES[0]}
    assert min(one["confidence"] for one in found) >= 0.5


def test_classes_are_renamed_after_they_are_found(segmenter: Segmenter) -> None:
    step = sam(3, class_names=NAMES, class_mapping={NAMES[0]: "quadrato"})

    found = predicted(segmenter, step)["predictions"]

    assert {one["class"] for one in found if one["class_id"] == 0} == {"quadrato"}
    assert {one["class"] for one in found if one["class_id"] == 1} == {NAMES[1]}


def test_outputs_are_parameters_images_and_all_that_a_step_gives(segmenter: Segmenter) -> None:
    document = specification(
        sam(class_names=NAMES),
        inputs=(IMAGE, parameter("text", default_value=["a", 1])),
        outputs=(
            output("$inputs.text", "text"),
            output("$inputs.image", "image"),
            output("$steps.sam.*", "all"),
            output("$steps.sam.predictions", "secret"),
        ),
    )

    (answer,) = answered(segmenter, document, excluded=("secret", "unknown"))

    assert list(answer) == ["text", "image", "all"]
    assert answer["text"] == ["a", 1]
    assert base64.b64decode(answer["image"]["value"]) == SCENE.encoded()
    assert answer["image"]["video_metadata"]["video_identifier"] == "image"
    assert list(answer["all"]) == ["predictions"]
    assert answer["all"]["predictions"]["predictions"]


def test_no_outputs_are_one_empty_answer(segmenter: Segmenter) -> None:
    assert answered(segmenter, specification(sam())) == [{}]


def test_a_batch_is_answered_in_order_with_the_place_in_parent_id(segmenter: Segmenter) -> None:
    scenes = [draw_scene(seed, size=256, objects=3, noise=False) for seed in (5, 6, 7)]
    names = sorted({one.name for scene in scenes for one in scene.objects})
    document = specification(sam(1, class_names=names), outputs=(PREDICTIONS,))

    answers = answered(
        segmenter, document, [scene.encoded() for scene in scenes], inputs={"image": [0, 1, 2]}
    )

    assert len(answers) == 3
    for place, (scene, answer) in enumerate(zip(scenes, answers, strict=True)):
        found = answer["predictions"]["predictions"]
        assert found
        assert {one["parent_id"] for one in found} == {f"image.[{place}]"}
        assert all(the_object(one, scene) for one in found)


def test_one_image_beside_a_batch_is_in_every_answer(segmenter: Segmenter) -> None:
    other = {"type": "WorkflowImage", "name": "other"}
    document = specification(
        inputs=(IMAGE, other),
        outputs=(output("$inputs.image", "image"), output("$inputs.other", "other")),
    )
    files = [draw_scene(seed, size=64).encoded() for seed in range(3)]

    answers = answered(segmenter, document, files, inputs={"image": [0, 1], "other": 2})

    sent = [base64.b64encode(file).decode() for file in files]
    assert [answer["image"]["value"] for answer in answers] == sent[:2]
    assert [answer["other"]["value"] for answer in answers] == [sent[2], sent[2]]


@pytest.mark.parametrize("steps", [(), (sam(),)])
def test_one_bad_image_refuses_the_batch_by_name(
    segmenter: Segmenter, steps: tuple[dict[str, Any], ...]
) -> None:
    document = specification(*steps, outputs=(output("$inputs.image"),))

    error = refusal(
        segmenter,
        document,
        files=[SCENE.encoded(), b"no image"],
        inputs={"image": [0, 1]},
    )

    assert (error.status, error.body["error_type"]) == (400, "RuntimeInputError")
    assert "`image.[1]`" in error.body["message"]


def test_an_image_of_too_many_pixels_is_refused_with_the_limit(segmenter: Segmenter) -> None:
    large = BytesIO()
    Image.new("L", (1001, 1000)).save(large, "PNG")

    error = refusal(segmenter, specification(sam()), files=[large.getvalue()])

    assert error.status == 400
    assert str(MAX_PIXELS) in error.body["message"]
