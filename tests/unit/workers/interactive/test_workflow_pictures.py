"""Drawings and crops of workflows, with the demo network."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.unit.domain.workflows.documents import (
    crops,
    output,
    polygons,
    sam,
    specification,
)
from tests.unit.workers.interactive.workflows import (
    NAMES,
    PREDICTIONS,
    SCENE,
    answered,
    pixels_of,
    predicted,
    static_crop,
)
from workers.interactive.segmenter import Segmenter

COLOURS = [(163, 81, 251), (255, 64, 64), (255, 161, 160), (255, 118, 51), (255, 182, 51)]


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
