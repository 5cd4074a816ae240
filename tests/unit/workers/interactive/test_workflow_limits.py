"""How much a workflow may take: time, pixels, blocks, bytes."""

import math
import time
import tracemalloc
from io import BytesIO
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from maskmill.sample_scenes import draw_scene
from tests.unit.domain.workflows.documents import (
    IMAGE,
    crops,
    output,
    parameter,
    polygons,
    sam,
    specification,
)
from tests.unit.workers.interactive.workflows import (
    MAX_PIXELS,
    NAMES,
    PREDICTIONS,
    answered,
    pixels_of,
    refusal,
    static_crop,
)
from workers.interactive import nms
from workers.interactive import segmenter as segmenter_module
from workers.interactive.segmenter import Segmenter


def test_a_workflow_that_nobody_awaits_any_more_is_not_gone_on_with(segmenter: Segmenter) -> None:
    document = specification(sam(), outputs=(PREDICTIONS,))
    with pytest.raises(TimeoutError):
        answered(segmenter, document, seconds=-1.0)


def test_the_time_limit_holds_inside_embedding_and_comparing_masks(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines: dict[ModuleType, list[float]] = {segmenter_module: [], nms: []}
    for module, checked in deadlines.items():
        monkeypatch.setattr(module, "check_time", checked.append)
    scene = draw_scene(8, size=256)  # not seen by any other test
    steps = (static_crop(), sam(3, images="$steps.cut.crops", class_names=NAMES))

    before = time.monotonic()
    for document in (specification(sam(3, class_names=NAMES)), specification(*steps)):
        answered(segmenter, document, [scene.encoded()], seconds=60.0)

    for checked in deadlines.values():
        assert all(before + 60 <= deadline < math.inf for deadline in checked)
    assert deadlines[nms]


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
