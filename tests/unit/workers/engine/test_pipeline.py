"""What comes out of a pipeline, for which images."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from domain.errors import ImageError, ImageErrorCode
from domain.geometry import Box, Point
from domain.prompts import ConceptPrompt, MaskPrompt, Prompt
from maskmill.sample_scenes import Scene, draw_scene
from tests.unit.workers.engine.masks import iou, pixels_of
from tests.unit.workers.engine.pipelines import ANY_STAR, pipeline_of, plain, task_of, watch_batches
from workers.engine.engine import Found, ImageInput
from workers.engine.network import Network
from workers.engine.pipeline import ImageTask


def test_instances_are_those_drawn_and_boxes_and_areas_those_of_the_mask(network: Network) -> None:
    scene = draw_scene(0)
    thing = scene.objects[0]
    prompts = (
        ConceptPrompt("dog"),
        ConceptPrompt(thing.name, class_name="thing"),
        MaskPrompt(None, (Point(*thing.centre),)),
    )
    (outcome,) = pipeline_of(network).run([task_of(scene, *prompts, first=3)])
    assert outcome.succeeded
    assert (outcome.width, outcome.height, outcome.orientation) == (512, 512, 1)
    assert outcome.milliseconds > 0
    assert [one.prompt_index for one in outcome.instances] == [4, 5]
    assert [one.category for one in outcome.instances] == ["thing", "object"]
    for one in outcome.instances:
        mask = pixels_of(one.mask)
        assert iou(mask, thing.mask) > 0.8
        ys, xs = np.nonzero(mask)
        box = (xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1)
        assert one.box == tuple(map(float, box))
        assert one.area == mask.sum()


def test_instances_come_by_prompt_and_best_first_and_none_below_the_floor(
    network: Network,
) -> None:
    prompts = tuple(ConceptPrompt(words) for words in ("shape", "star", "white circle"))
    (outcome,) = pipeline_of(network, floor=0.15).run([task_of(draw_scene(0), *prompts)])
    order = [(one.prompt_index, -one.score) for one in outcome.instances]
    assert len(order) > 4
    assert order == sorted(order)
    assert min(one.score for one in outcome.instances) >= 0.15


def test_a_mask_prompt_keeps_its_mask_whatever_the_floor(network: Network) -> None:
    scene = draw_scene(0)
    prompt = MaskPrompt(Box(*scene.objects[0].box))
    (outcome,) = pipeline_of(network, floor=1.0).run([task_of(scene, prompt)])
    assert len(outcome.instances) == 1


def test_an_oriented_image_has_oriented_sizes_and_masks(network: Network) -> None:
    upright = draw_scene(0).image.crop((0, 0, 512, 400))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(stored, "PNG", exif=exif)
    turned, straight = pipeline_of(network).run(
        [ImageTask(stored.getvalue, ANY_STAR), task_of(Scene(upright, ()), *ANY_STAR)]
    )
    assert len(turned.instances) > 0
    assert (turned.width, turned.height, turned.orientation) == (512, 400, 6)
    assert turned.instances == straight.instances


def test_outcomes_keep_the_order_of_the_tasks(network: Network) -> None:
    sides = [8 + number % 50 for number in range(60)]
    outcomes = list(pipeline_of(network).run(plain(side) for side in sides))
    assert [outcome.width for outcome in outcomes] == sides


def test_no_tasks_give_no_outcomes(network: Network) -> None:
    assert list(pipeline_of(network).run([])) == []


def test_a_bad_image_is_an_outcome_in_its_place(network: Network) -> None:
    def forbidden() -> bytes:
        raise ImageError(ImageErrorCode.FORBIDDEN, "not yours")

    big = Scene(Image.new("RGB", (2000, 1000)), ())
    tasks = [
        plain(10),
        ImageTask(forbidden, ANY_STAR),
        ImageTask(lambda: b"no image", ANY_STAR),
        plain(11),
        ImageTask(lambda: b"", ANY_STAR),
        task_of(big, *ANY_STAR),
        plain(12),
    ]
    outcomes = list(pipeline_of(network).run(tasks))
    assert [outcome.error_code for outcome in outcomes] == [
        None,
        ImageErrorCode.FORBIDDEN,
        ImageErrorCode.UNSUPPORTED,
        None,
        ImageErrorCode.TRUNCATED,
        ImageErrorCode.TOO_LARGE,
        None,
    ]
    assert outcomes[1].error_message == "not yours"
    assert [outcome.width for outcome in outcomes if outcome.succeeded] == [10, 11, 12]


def test_images_go_through_the_network_in_batches(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = watch_batches(network, monkeypatch)
    list(pipeline_of(network, images_per_batch=4).run([plain(10)] * 40))
    assert sum(sizes) == 40
    assert max(sizes) == 4


def jpeg_task(scene: Scene, *prompts: Prompt, orientation: int = 1) -> ImageTask:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = BytesIO()
    scene.image.save(stored, "JPEG", quality=95, exif=exif)
    return ImageTask(stored.getvalue, prompts)


def test_jpegs_left_to_the_device_give_what_decoding_here_gives(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is the CPU, with torchvision's own decoder."""
    tasks = [jpeg_task(draw_scene(seed), *ANY_STAR, orientation=seed + 1) for seed in range(8)]
    tasks.insert(3, task_of(draw_scene(9), *ANY_STAR))  # a PNG between them
    here = list(pipeline_of(network).run(tasks))
    monkeypatch.setattr(network, "squash_jpegs", network._squash_jpegs)
    there = list(pipeline_of(network).run(tasks))
    assert sum(len(outcome.instances) for outcome in here) > 6
    for one, other in zip(there, here, strict=True):
        assert (one.width, one.height, one.orientation) == (
            other.width,
            other.height,
            other.orientation,
        )
        for ours, theirs in zip(one.instances, other.instances, strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=0.05)
            assert iou(pixels_of(ours.mask), pixels_of(theirs.mask)) > 0.97


def test_a_broken_jpeg_left_to_the_device_has_the_error_that_decoding_here_gives(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jpeg_task(draw_scene(0)).load()
    broken = data[:700] + b"\xff\xd9"  # ends inside its tables, or its scan
    tasks = [jpeg_task(draw_scene(0), *ANY_STAR), ImageTask(lambda: broken, ANY_STAR)]
    here = list(pipeline_of(network).run(tasks))
    monkeypatch.setattr(network, "squash_jpegs", network._squash_jpegs)
    there = list(pipeline_of(network).run(tasks))
    assert [outcome.error_code for outcome in there] == [o.error_code for o in here]
    assert there[1].error_message == here[1].error_message


def test_masks_resized_on_the_device_are_those_resized_here(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    click = MaskPrompt(None, (Point(100, 100),))
    prompts = (ConceptPrompt("shape"), ConceptPrompt("star"), click)
    tasks = [task_of(draw_scene(seed, size=size), *prompts) for seed, size in enumerate((512, 300))]
    here = list(pipeline_of(network, floor=0.2).run(tasks))
    monkeypatch.setattr(network, "_resizes_masks", True)
    there = list(pipeline_of(network, floor=0.2).run(tasks))
    for one, other in zip(there, here, strict=True):
        assert len(other.instances) > 3
        for ours, theirs in zip(one.instances, other.instances, strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=1e-5)
            assert iou(pixels_of(ours.mask), pixels_of(theirs.mask)) > 0.999


def test_a_single_image_too_large_for_the_memory_goes_in_smaller_passes(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tuple(ConceptPrompt(words) for words in ("star", "red", "blue", "circle") * 4)
    (expected,) = pipeline_of(network).run([task_of(draw_scene(0), *prompts)])
    monkeypatch.setattr(network, "_sizes", network._sizes)  # put back afterwards
    forward = network._concepts.encoder.forward

    def forward_or_allocate(tokens: Tensor, *rest: Tensor) -> Tensor:
        if len(tokens) > 4:
            torch.empty(2**60, dtype=torch.uint8)  # the allocator's own error
        return forward(tokens, *rest)

    monkeypatch.setattr(network._concepts.encoder, "forward", forward_or_allocate)
    (outcome,) = pipeline_of(network).run([task_of(draw_scene(0), *prompts)])
    assert network._sizes.pairs == 4
    assert [one.box for one in outcome.instances] == [one.box for one in expected.instances]


def test_a_batch_that_is_too_large_for_the_memory_is_halved(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(pipeline_of(network).run([task_of(draw_scene(s), *ANY_STAR) for s in range(8)]))
    sizes = watch_batches(network, monkeypatch, memory=1)
    outcomes = list(pipeline_of(network).run([task_of(draw_scene(s), *ANY_STAR) for s in range(8)]))
    assert all(outcome.succeeded for outcome in outcomes)
    assert sum(size == 1 for size in sizes) == 8
    assert max(sizes) > 1
    for ours, other in zip(outcomes, expected, strict=True):
        assert [one.box for one in ours.instances] == [one.box for one in other.instances]


def test_an_image_too_large_for_the_memory_alone_is_recorded_and_the_rest_is_done(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = network.segment

    def segment(images: Sequence[ImageInput]) -> list[list[Found]]:
        if any(image.width == 13 for image in images):
            raise torch.OutOfMemoryError
        return original(images)

    monkeypatch.setattr(network, "segment", segment)
    outcomes = list(pipeline_of(network).run(plain(side) for side in range(10, 18)))
    assert [outcome.width for outcome in outcomes] == list(range(10, 18))
    failed = [outcome for outcome in outcomes if not outcome.succeeded]
    assert [(one.width, one.error_code) for one in failed] == [(13, ImageErrorCode.OUT_OF_MEMORY)]


def test_prompts_that_fill_the_queries_are_flagged_as_saturated(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = torch.full((64, 64), 0.4)
    counts = {0: 28, 1: 29, 2: 30}  # 0.95 x 30 queries are 28.5

    def segment(images: Sequence[ImageInput]) -> list[list[Found]]:
        return [[Found(0, prompt, 0.9, mask) for prompt in counts for _ in range(counts[prompt])]]

    monkeypatch.setattr(network, "segment", segment)
    prompts = [ConceptPrompt(words) for words in ("red", "blue", "green")]
    task = task_of(Scene(Image.new("RGB", (8, 8)), ()), *prompts, first=5)
    (outcome,) = pipeline_of(network).run([task])
    assert outcome.saturated_prompts == (6, 7)
    assert len(outcome.instances) == 87


def test_an_empty_mask_is_no_instance(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def segment(images: Sequence[ImageInput]) -> list[list[Found]]:
        return [[Found(0, 0, 0.9, torch.full((64, 64), -0.4))]]

    monkeypatch.setattr(network, "segment", segment)
    (outcome,) = pipeline_of(network).run([plain(10)])
    assert outcome.succeeded
    assert outcome.instances == ()
