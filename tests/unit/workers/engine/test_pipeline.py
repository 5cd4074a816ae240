import threading
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

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
from workers.engine.channel import Channel, Closed
from workers.engine.engine import Found, ImageInput
from workers.engine.network import Network
from workers.engine.pipeline import ImageTask, Pipeline

ANY_STAR = (ConceptPrompt("star"),)


def pipeline_of(network: Network, floor: float = 0.5, **options: Any) -> Pipeline:
    return Pipeline(network, floor=floor, max_pixels=1_000_000, **options)


def task_of(scene: Scene, *prompts: Prompt, first: int = 0) -> ImageTask:
    return ImageTask(scene.encoded, prompts, first)


def plain(side: int) -> ImageTask:
    """An image that is told from others by its size."""
    scene = Scene(Image.new("RGB", (side, side), "grey"), ())
    return task_of(scene, *ANY_STAR)


def engine_threads() -> list[str]:
    """Still running now, or, of those that fetch and that nobody waits for, after 10 seconds."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("engine-")]
    for thread in threads:
        if "prefetch" in thread.name:
            thread.join(10)
    return [thread.name for thread in threads if thread.is_alive()]


class Stalling:
    """Stands in for a load that takes until it is told to end."""

    def __init__(self, task: ImageTask) -> None:
        self.started = threading.Event()
        self.release = threading.Event()
        self._task = task

    def __call__(self) -> bytes:
        self.started.set()
        assert self.release.wait(30)
        return self._task.load()


def watch_batches(network: Network, monkeypatch: pytest.MonkeyPatch, memory: int = 99) -> list[int]:
    """Batch sizes the network is called with; more than `memory` images are out of memory."""
    sizes: list[int] = []
    original = network.segment

    def segment(images: Sequence[ImageInput]) -> list[list[Found]]:
        sizes.append(len(images))
        if len(images) > memory:
            raise torch.OutOfMemoryError
        return original(images)

    monkeypatch.setattr(network, "segment", segment)
    return sizes


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


def test_a_load_that_fails_otherwise_ends_the_run_after_the_images_before(
    network: Network,
) -> None:
    def lost() -> bytes:
        raise ConnectionError("the store is gone")

    run = pipeline_of(network).run([plain(10), plain(11), ImageTask(lost, ANY_STAR), plain(12)])
    assert [next(run).width, next(run).width] == [10, 11]
    with pytest.raises(ConnectionError, match="the store is gone"):
        next(run)
    assert engine_threads() == []


def test_an_exception_of_the_tasks_reaches_the_caller_after_the_images_before(
    network: Network,
) -> None:
    def tasks() -> Iterator[ImageTask]:
        yield plain(10)
        raise RuntimeError("lease lost")

    run = pipeline_of(network).run(tasks())
    assert next(run).width == 10
    with pytest.raises(RuntimeError, match="lease lost"):
        next(run)


def test_an_exception_of_the_network_reaches_the_caller(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(images: Sequence[ImageInput]) -> list[list[Found]]:
        raise RuntimeError("device lost")

    monkeypatch.setattr(network, "segment", fail)
    with pytest.raises(RuntimeError, match="device lost"):
        list(pipeline_of(network).run([plain(10), plain(11)]))
    assert engine_threads() == []


def test_an_exception_in_encoding_reaches_the_caller(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("cannot encode")

    monkeypatch.setattr("workers.engine.stages.resize", fail)
    with pytest.raises(RuntimeError, match="cannot encode"):
        list(pipeline_of(network).run([task_of(draw_scene(0), ConceptPrompt("shape"))]))


def test_tasks_are_read_a_few_batches_ahead_and_no_further(network: Network) -> None:
    read: list[int] = []

    def tasks() -> Iterator[ImageTask]:
        for number in range(500):
            read.append(number)
            yield plain(10)

    run = pipeline_of(network, images_per_batch=2, prefetch_threads=2).run(tasks())
    next(run)
    run.close()
    assert len(read) < 64 + 30  # outcomes that wait for the caller, and what is under way


def test_closing_early_stops_every_thread(network: Network) -> None:
    run = pipeline_of(network).run(plain(10) for _ in range(500))
    next(run)
    run.close()
    assert engine_threads() == []


def test_an_exception_in_the_caller_stops_every_thread(network: Network) -> None:
    def consume() -> None:
        for _ in pipeline_of(network).run(plain(10) for _ in range(500)):
            raise KeyError("the caller's")

    with pytest.raises(KeyError):
        consume()
    assert engine_threads() == []


def test_closing_does_not_wait_for_a_slow_load(network: Network) -> None:
    stalling = Stalling(plain(10))
    tasks = [plain(9), ImageTask(stalling, ANY_STAR), *[plain(11)] * 50]
    run = pipeline_of(network, images_per_batch=1).run(tasks)
    assert next(run).width == 9
    assert stalling.started.wait(30)
    closing = threading.Thread(target=run.close)
    closing.start()
    closing.join(10)
    closed_while_stalled = not closing.is_alive()
    stalling.release.set()
    assert closed_while_stalled
    assert engine_threads() == []


def test_the_network_does_not_wait_for_tasks_that_do_not_come(network: Network) -> None:
    """A batch is what is there: a caller may hand out the next task after the first outcome."""
    first_done = threading.Event()

    def tasks() -> Iterator[ImageTask]:
        yield plain(10)
        assert first_done.wait(30)
        yield plain(11)

    run = pipeline_of(network, images_per_batch=4).run(tasks())
    assert next(run).width == 10
    first_done.set()
    assert [outcome.width for outcome in run] == [11]


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


def test_a_closed_channel_wakes_both_ends() -> None:
    channel = Channel[int](1)
    channel.put(1)
    woken: list[str] = []

    def put() -> None:
        with pytest.raises(Closed):
            channel.put(2)
        woken.append("put")

    thread = threading.Thread(target=put)
    thread.start()
    channel.close()
    thread.join(10)
    assert woken == ["put"]
    with pytest.raises(Closed):
        channel.take()


def test_a_finished_channel_is_drained_and_then_ends() -> None:
    channel = Channel[int](3)
    for number in range(3):
        channel.put(number)
    channel.finish()
    assert [channel.take(2), channel.take(2), channel.take(2)] == [[0, 1], [2], []]
