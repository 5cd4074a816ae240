"""Workflows on scenes whose objects are known, with the demo network."""

import base64
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from domain.interactive import WorkflowRequest
from domain.workflows.errors import WorkflowError
from maskmill.sample_scenes import Scene, SceneObject, draw_scene
from tests.unit.domain.workflows.documents import (
    IMAGE,
    crops,
    output,
    parameter,
    polygons,
    sam,
    specification,
)
from workers.engine import load_engine
from workers.interactive.segmenter import Segmenter
from workers.interactive.workflow_run import run_workflow

MAX_PIXELS = 10**6
SCENE = draw_scene(5, size=256, objects=5, noise=False)
NAMES = sorted({one.name for one in SCENE.objects})
COLOURS = [(163, 81, 251), (255, 64, 64), (255, 161, 160), (255, 118, 51), (255, 182, 51)]
PREDICTIONS = output("$steps.sam.predictions", "predictions")


@pytest.fixture(scope="module")
def segmenter() -> Iterator[Segmenter]:
    engine = load_engine("demo-sam3", device="cpu")
    segmenter = Segmenter(engine, max_pixels=MAX_PIXELS, device_bytes=10**8, host_bytes=0)
    yield segmenter
    segmenter.close()


def answered(
    segmenter: Segmenter,
    document: dict[str, Any],
    files: Sequence[bytes] = (SCENE.encoded(),),
    *,
    inputs: dict[str, Any] | None = None,
    excluded: tuple[str, ...] = (),
    seconds: float = 60.0,
) -> list[dict[str, Any]]:
    request = WorkflowRequest(
        specification=document, inputs=inputs or {"image": 0}, excluded_fields=excluded
    )
    body = run_workflow(
        request,
        files=files,
        owner="key",
        segmenter=segmenter,
        max_pixels=MAX_PIXELS,
        deadline=time.time() + seconds,
    )
    assert body["profiler_trace"] == []
    return body["outputs"]


def predicted(segmenter: Segmenter, *steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    document = specification(*steps, outputs=(PREDICTIONS | fields,))
    return answered(segmenter, document)[0]["predictions"]


def refusal(segmenter: Segmenter, document: dict[str, Any], **fields: Any) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        answered(segmenter, document, **fields)
    return caught.value


def pixels_of(image: dict[str, Any]) -> np.ndarray:
    assert image["type"] == "base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(image["value"]))).convert("RGB"))


def the_object(prediction: dict[str, Any], scene: Scene = SCENE) -> SceneObject:
    """The one of that name whose box lies around the same centre."""
    (found,) = [
        one
        for one in scene.objects
        if one.name == prediction["class"]
        and abs((one.box[0] + one.box[2]) / 2 - prediction["x"]) < 6
        and abs((one.box[1] + one.box[3]) / 2 - prediction["y"]) < 6
    ]
    return found


def static_crop(**fields: Any) -> dict[str, Any]:
    step = {"type": "AbsoluteStaticCrop", "name": "cut", "images": "$inputs.image"}
    return step | {"x_center": 128, "y_center": 128, "width": 200, "height": 180} | fields


# -- predictions ----------------------------------------------------------------------------------


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


# -- outputs --------------------------------------------------------------------------------------


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


# -- drawings -------------------------------------------------------------------------------------


def test_a_drawing_has_the_outline_of_what_was_found_in_its_classs_colour(
    segmenter: Segmenter,
) -> None:
    document = specification(
        polygons(thickness=6),
        sam(1, class_names=NAMES),
        outputs=(PREDICTIONS, output("$steps.draw.image")),
    )

    (answer,) = answered(segmenter, document)

    drawn = pixels_of(answer["result"]).astype(int)
    assert drawn.shape == (256, 256, 3)
    for one in answer["predictions"]["predictions"]:
        points = [(int(point["y"]), int(point["x"])) for point in one["points"]]
        near = [np.abs(drawn[at] - COLOURS[one["class_id"]]).max() < 60 for at in points]
        assert np.mean(near) > 0.9
    plain = np.asarray(SCENE.image).astype(int)
    assert np.abs(drawn - plain)[:5, 200:].max() < 12  # no object there, and no drawing


def test_a_drawing_is_a_jpeg_of_quality_95(segmenter: Segmenter) -> None:
    document = specification(sam(), polygons(), outputs=(output("$steps.draw.image"),))

    (answer,) = answered(segmenter, document)

    drawn = Image.open(BytesIO(base64.b64decode(answer["result"]["value"])))
    reference = BytesIO()
    SCENE.image.save(reference, "JPEG", quality=95)
    assert drawn.format == "JPEG"
    assert drawn.quantization == Image.open(reference).quantization  # type: ignore[attr-defined]


def test_drawings_lie_on_each_other(segmenter: Segmenter) -> None:
    masks = polygons(type="MaskVisualization", name="masks", opacity=1.0)
    boxes = polygons(type="BoundingBoxVisualization", name="boxes", image="$steps.masks.image")
    document = specification(
        sam(class_names=NAMES),
        boxes,
        masks,
        outputs=(PREDICTIONS, output("$steps.boxes.image"), output("$steps.masks.image", "masks")),
    )

    (answer,) = answered(segmenter, document)

    both, masks_only = (pixels_of(answer[name]).astype(int) for name in ("result", "masks"))
    changed = np.abs(both - masks_only).max(axis=2) > 60
    assert changed.any()
    for one in answer["predictions"]["predictions"]:
        inside = coco_mask.decode(one["rle_mask"]).astype(bool)
        assert not changed[inside].mean() > 0.2
        assert np.median(masks_only[inside], axis=0) == pytest.approx(
            COLOURS[one["class_id"]], abs=9
        )


# -- crops ----------------------------------------------------------------------------------------


def test_objects_in_a_crop_are_told_in_the_images_or_the_crops_coordinates(
    segmenter: Segmenter,
) -> None:
    inside = sam(name="sam", images="$steps.cut.crops", class_names=NAMES)
    steps = (static_crop(), inside)

    parent = predicted(segmenter, *steps)
    own = predicted(segmenter, *steps, coordinates_system="own")

    assert parent["image"] == {"width": 256, "height": 256}
    assert own["image"] == {"width": 200, "height": 180}
    assert len(parent["predictions"]) == len(own["predictions"]) > 0
    for outer, inner in zip(parent["predictions"], own["predictions"], strict=True):
        assert (outer["x"] - inner["x"], outer["y"] - inner["y"]) == (28, 38)
        assert outer["parent_id"] == "image"
        assert inner["parent_id"].startswith("absolute_static_crop.")
        assert inner["root_parent_id"] == "image"
        origin = {"offset_x": 28, "offset_y": 38, "width": 256, "height": 256}
        assert inner["parent_origin"] == inner["root_parent_origin"] == origin
        whole, cut = coco_mask.decode(outer["rle_mask"]), coco_mask.decode(inner["rle_mask"])
        np.testing.assert_array_equal(whole[38:218, 28:228], cut)
        assert whole.sum() == cut.sum()


def test_a_static_crop_is_cut_at_the_images_edge(segmenter: Segmenter) -> None:
    document = specification(
        static_crop(x_center=10, width=60), outputs=(output("$steps.cut.crops"),)
    )

    (answer,) = answered(segmenter, document)

    assert pixels_of(answer["result"]).shape == (180, 40, 3)
    assert answer["result"]["parent_origin"]["offset_x"] == 0
    assert answer["result"]["root_parent_id"] == "image"


def test_a_crop_beside_the_image_gives_nothing_and_so_do_steps_after_it(
    segmenter: Segmenter,
) -> None:
    document = specification(
        static_crop(x_center=1000),
        sam(images="$steps.cut.crops"),
        crops(image="$steps.cut.crops"),
        outputs=(
            PREDICTIONS,
            output("$steps.cut.crops", "cut"),
            output("$steps.sam.*", "all"),
            output("$steps.crop.crops", "crops"),
        ),
    )

    assert answered(segmenter, document) == [
        {"predictions": None, "cut": None, "all": None, "crops": []}
    ]


def test_a_relative_crop_is_in_fractions_of_the_image(segmenter: Segmenter) -> None:
    cut = static_crop(type="RelativeStaticCrop", x_center=0.5, y_center=0.25, width=0.5, height=0.5)
    document = specification(cut, outputs=(output("$steps.cut.crops"),))

    (answer,) = answered(segmenter, document)

    origin = answer["result"]["parent_origin"]
    assert (origin["offset_x"], origin["offset_y"]) == (64, 0)
    expected = np.asarray(SCENE.image)[:128, 64:192].astype(int)
    difference = np.abs(pixels_of(answer["result"]) - expected)
    assert difference.mean() < 5


def test_every_object_gets_a_crop_that_further_steps_look_into(segmenter: Segmenter) -> None:
    again = sam(name="again", images="$steps.crop.crops", class_names=NAMES, confidence=0.3)
    document = specification(
        sam(class_names=NAMES),
        crops(),
        again,
        outputs=(
            PREDICTIONS,
            output("$steps.crop.*", "crops"),
            output("$steps.again.predictions", "again"),
        ),
    )

    (answer,) = answered(segmenter, document)

    found = answer["predictions"]["predictions"]
    assert len(found) == len(answer["crops"]) == len(answer["again"]) == len(SCENE.objects)
    for one, crop, inner in zip(found, answer["crops"], answer["again"], strict=True):
        assert pixels_of(crop["crops"]).shape == (one["height"], one["width"], 3)
        assert crop["crops"]["parent_id"] == one["detection_id"]
        assert crop["predictions"]["predictions"] == [one]
        assert inner["image"] == {"width": 256, "height": 256}


def test_no_objects_have_no_crops(segmenter: Segmenter) -> None:
    document = specification(
        sam(class_names=["purple ring"]), crops(), outputs=(output("$steps.crop.crops"),)
    )

    assert answered(segmenter, document) == [{"result": []}]


def test_objects_found_in_a_crop_are_drawn_at_their_place_in_the_whole_image(
    segmenter: Segmenter,
) -> None:
    document = specification(
        static_crop(),
        sam(images="$steps.cut.crops", class_names=NAMES),
        polygons(
            type="MaskVisualization", opacity=1.0, color_palette="CUSTOM", custom_colors=["#000000"]
        ),
        outputs=(PREDICTIONS, output("$steps.draw.image")),
    )

    (answer,) = answered(segmenter, document)

    drawn = pixels_of(answer["result"])
    for one in answer["predictions"]["predictions"]:
        inside = coco_mask.decode(one["rle_mask"]).astype(bool)
        assert np.median(drawn[inside]) < 10


def test_a_workflow_that_nobody_awaits_any_more_is_not_gone_on_with(segmenter: Segmenter) -> None:
    document = specification(sam(), outputs=(PREDICTIONS,))
    with pytest.raises(TimeoutError):
        answered(segmenter, document, seconds=-1.0)


# -- limits ---------------------------------------------------------------------------------------


def sized(pixels: int) -> bytes:
    """A grey square of so many pixels, or a few less."""
    side = int(pixels**0.5)
    file = BytesIO()
    Image.new("RGB", (side, side), "grey").save(file, "PNG")
    return file.getvalue()


def test_a_chain_of_drawings_on_the_largest_image_holds_two_at_a_time(
    segmenter: Segmenter,
) -> None:
    chain = [polygons(name="draw0")] + [
        polygons(name=f"draw{n}", image=f"$steps.draw{n - 1}.image") for n in range(1, 12)
    ]
    document = specification(
        sam(),
        *chain,
        *[polygons(name=f"side{n}") for n in range(8)],
        outputs=(output("$steps.draw11.image"), output("$steps.side3.image", "side")),
    )

    (answer,) = answered(segmenter, document, [sized(MAX_PIXELS)])

    assert pixels_of(answer["result"]).shape == pixels_of(answer["side"]).shape == (1000, 1000, 3)


def test_more_pixels_than_may_be_held_at_once_are_refused(segmenter: Segmenter) -> None:
    below = [polygons(name=f"below{n}") for n in range(5)]
    above = [polygons(name=f"above{n}", image=f"$steps.below{n}.image") for n in range(5)]
    faded = crops(mask_opacity=1.0, image="$steps.below0.image")
    document = specification(sam(), *below, *above, faded)

    error = refusal(segmenter, document, files=[sized(MAX_PIXELS)])

    assert (error.status, error.body["error_type"]) == (400, "WorkflowLimitError")
    assert str(2 * MAX_PIXELS) in error.body["message"]
    assert answered(segmenter, document, [sized(MAX_PIXELS // 4)]) == [{}]


def test_a_batch_of_large_images_with_drawings_is_answered(segmenter: Segmenter) -> None:
    document = specification(
        sam(),
        polygons(name="one"),
        polygons(name="two", image="$steps.one.image"),
        outputs=(output("$steps.two.image"),),
    )

    answers = answered(segmenter, document, [sized(MAX_PIXELS)], inputs={"image": [0] * 8})

    assert len(answers) == 8


def test_an_answer_of_too_many_bytes_is_refused(segmenter: Segmenter) -> None:
    file = BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    images = tuple(output("$inputs.image", f"image{n}") for n in range(64))
    texts = tuple(output("$inputs.text", f"text{n}") for n in range(64))
    declared = (IMAGE, parameter("text"))
    inputs = {"image": 0, "text": "x" * 2 * 10**6}

    for outputs in (images, texts):
        document = specification(inputs=declared, outputs=outputs)
        error = refusal(segmenter, document, files=[file.getvalue()], inputs=inputs)
        assert (error.status, error.body["error_type"]) == (400, "WorkflowLimitError")
        assert str(64 * 2**20) in error.body["message"]

    excluded = tuple(one["name"] for one in images[10:])
    document = specification(inputs=declared, outputs=images)
    (answer,) = answered(segmenter, document, [file.getvalue()], inputs=inputs, excluded=excluded)
    assert len(answer) == 10


def test_more_blocks_than_a_request_may_run_are_refused(segmenter: Segmenter) -> None:
    document = specification(*[static_crop(name=f"cut{n}") for n in range(64)])

    error = refusal(segmenter, document, inputs={"image": [0] * 65})

    assert (error.status, error.body["error_type"]) == (400, "WorkflowLimitError")
    assert "4096 blocks" in error.body["message"]
    assert len(answered(segmenter, document, inputs={"image": [0] * 64})) == 1


def test_crops_of_objects_count_as_blocks(segmenter: Segmenter) -> None:
    """62 steps make a crop of each of 5 objects, on 12 images: fewer blocks than may run, and more
    crops."""
    document = specification(sam(class_names=NAMES), *[crops(name=f"crop{n}") for n in range(62)])

    error = refusal(segmenter, document, inputs={"image": [0] * 12})

    assert "4096 blocks" in error.body["message"]


def test_fixed_parts_of_fixed_parts_are_cut_as_often_as_there_are_steps(
    segmenter: Segmenter,
) -> None:
    part = {"x_center": 64, "y_center": 64, "width": 128, "height": 128}
    chain = [static_crop(name="cut0", **part)] + [
        static_crop(name=f"cut{n}", images=f"$steps.cut{n - 1}.crops", **part) for n in range(1, 64)
    ]
    document = specification(*chain, outputs=(output("$steps.cut63.crops"),))

    (answer,) = answered(segmenter, document)

    assert answer["result"]["root_parent_id"] == "image"


def test_many_crops_of_a_large_image_take_no_memory_of_their_own(segmenter: Segmenter) -> None:
    steps = [
        static_crop(name=f"cut{n}", x_center=500, y_center=500, width=1000, height=1000)
        for n in range(30)
    ]
    users = [
        static_crop(name=f"use{n}", images=f"$steps.cut{n}.crops", width=2, height=2)
        for n in range(30)
    ]
    document = specification(*steps, *users)

    tracemalloc.start()
    answered(segmenter, document, [sized(MAX_PIXELS)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 * 3 * MAX_PIXELS
