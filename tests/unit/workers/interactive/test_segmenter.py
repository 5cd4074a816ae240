import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BytesIO
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from domain.errors import ImageError, ImageErrorCode
from domain.geometry import Box, Point
from domain.prompts import ConceptPrompt
from maskmill.sample_scenes import Scene, draw_scene
from tests.unit.workers.engine.masks import iou, pixels_of
from workers.engine import load_engine
from workers.engine.channel import Closed
from workers.engine.engine import Engine, Pointed
from workers.interactive.segmenter import SegmentedMask, Segmenter

DEVICE_BYTES = 10**7


@dataclass
class Watched:
    """A real engine, and how many images each call brought it."""

    engine: Any
    embedded: list[int] = field(default_factory=list)
    segmented: list[int] = field(default_factory=list)

    def embed(self, squashed: Sequence[Any]) -> Any:
        self.embedded.append(len(squashed))
        return self.engine.embed(squashed)

    def segment(self, images: Sequence[Any]) -> Any:
        self.segmented.append(len(images))
        return self.engine.segment(images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine("demo-sam3", device="cpu", threads=1)


@pytest.fixture
def watched(engine: Engine) -> Watched:
    return Watched(engine)


@pytest.fixture
def segmenter(watched: Watched) -> Iterator[Segmenter]:
    made = segmenter_of(watched)
    yield made
    made.close()


def segmenter_of(engine: Any, device_bytes: int = DEVICE_BYTES) -> Segmenter:
    return Segmenter(engine, max_pixels=10**6, device_bytes=device_bytes, host_bytes=0)


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def overlaps(masks: Sequence[SegmentedMask], scene: Scene, name: str) -> list[float]:
    """Of each drawn object of that name, with the mask that fits best."""
    drawn = [thing.mask for thing in scene.objects if name in thing.name]
    return [max((iou(pixels_of(one.rle), mask) for one in masks), default=0.0) for mask in drawn]


def test_an_image_is_seen_with_its_size_and_digests_upright(segmenter: Segmenter) -> None:
    scene = draw_scene(0)
    wide = scene.image.crop((0, 0, 300, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    wide.save(path := BytesIO(), "PNG", exif=exif)
    seen = segmenter.see("alice", path.getvalue())
    pixels = np.asarray(wide.transpose(Image.Transpose.ROTATE_270))
    assert (seen.width, seen.height) == (200, 300)
    assert seen.pixels_sha1 == hashlib.sha1(pixels.tobytes()).hexdigest()
    assert seen.digest == hashlib.sha256(path.getvalue()).hexdigest()


def test_concepts_are_found_with_box_and_area_by_prompt(segmenter: Segmenter) -> None:
    for seed in range(4):
        scene = draw_scene(seed)
        names = sorted({thing.name for thing in scene.objects})
        image = segmenter.see("alice", scene.encoded())
        asked = [ConceptPrompt("dog"), *(ConceptPrompt(name) for name in names)]
        masks = segmenter.concepts(image, asked, floor=0.5)
        assert [one.prompt for one in masks] == sorted(one.prompt for one in masks)
        for position, name in enumerate(["dog", *names]):
            own = [one for one in masks if one.prompt == position]
            drawn = overlaps(own, scene, name)
            assert len(own) == len(drawn)
            assert all(overlap > 0.8 for overlap in drawn)
        for one in masks:
            rle = {"size": list(one.rle.size), "counts": one.rle.counts}
            assert one.rle.size == (512, 512)
            assert one.box == tuple(coco_mask.toBbox(rle))
            assert one.area == coco_mask.area(rle) > 0
            assert one.logits is None


def test_an_exemplar_with_a_text_is_one_prompt(segmenter: Segmenter) -> None:
    scene = draw_scene(0)
    thing = scene.objects[0]
    image = segmenter.see("alice", scene.encoded())
    prompt = ConceptPrompt(thing.shape, (Box(*thing.box),), (True,))
    assert max(overlaps(segmenter.concepts(image, [prompt], floor=0.5), scene, thing.name)) > 0.8


def test_every_object_prompt_gets_one_mask_in_its_place(segmenter: Segmenter) -> None:
    """With and without a box in one request, empty ones and one that says nothing among them."""
    scene = draw_scene(0)
    image = segmenter.see("alice", scene.encoded())
    prompts = [Pointed()]
    for thing in scene.objects:
        prompts += [Pointed((Point(*thing.centre),)), Pointed(box=thing.box, multimask=False)]
    masks = segmenter.objects(image, prompts)
    assert [one.prompt for one in masks] == list(range(len(prompts)))
    for position, thing in enumerate(scene.objects):
        for one in masks[1 + 2 * position : 3 + 2 * position]:
            assert iou(pixels_of(one.rle), thing.mask) > 0.8
    for one in masks:
        assert 0 <= one.score <= 1
        assert one.logits is not None
        assert (one.logits.dtype, one.logits.ndim) == (np.float32, 2)
    answered = zip(prompts, masks, strict=True)
    refined = [replace(prompt, previous=mask.logits) for prompt, mask in answered]
    again = segmenter.objects(image, refined)
    assert any((one.logits != two.logits).any() for one, two in zip(masks, again, strict=True))


def test_an_empty_mask_has_run_lengths_of_zeros(
    engine: Engine, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = engine.segment

    def nothing(images: Sequence[Any]) -> Any:
        answers = original(images)
        return [[replace(one, mask=one.mask.clamp(max=-1)) for one in found] for found in answers]

    monkeypatch.setattr(engine, "segment", nothing)
    image = segmenter.see("alice", draw_scene(0, size=64).encoded())
    (mask,) = segmenter.objects(image, [Pointed()])
    assert (mask.box, mask.area) == ((0.0, 0.0, 0.0, 0.0), 0)
    zeros = coco_mask.encode(np.zeros((64, 64), np.uint8, order="F"))
    assert mask.rle.counts == zeros["counts"]


def test_a_file_seen_before_is_neither_decoded_nor_embedded(
    watched: Watched, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw_scene(0).encoded()
    first = segmenter.see("alice", data)
    monkeypatch.setattr("workers.interactive.segmenter.decode", None)
    assert segmenter.see("alice", data) is first
    assert segmenter.recall("alice", first.digest) is first
    assert watched.embedded == [1]
    assert (segmenter.hits, segmenter.misses) == (2, 1)


def test_owners_share_nothing(watched: Watched, segmenter: Segmenter) -> None:
    data = draw_scene(0).encoded()
    hers = segmenter.see("alice", data)
    assert segmenter.recall("bob", hers.digest) is None
    segmenter.see("bob", data)
    assert watched.embedded == [1, 1]
    segmenter.forget("alice")
    assert segmenter.recall("alice", hers.digest) is None
    assert segmenter.recall("bob", hers.digest) is not None


def test_what_falls_out_of_the_room_is_computed_again(watched: Watched) -> None:
    small = segmenter_of(watched, device_bytes=1)
    scene = draw_scene(0)
    image = small.see("alice", scene.encoded())
    assert small.recall("alice", image.digest) is None
    assert small.concepts(image, [ConceptPrompt("star")], floor=0.5)  # in hand it is of use still
    small.see("alice", scene.encoded())
    assert watched.embedded == [1, 1]
    small.close()


def test_callers_at_once_get_their_own_answers_from_fewer_passes(
    watched: Watched, segmenter: Segmenter
) -> None:
    """With a floor of each one's own."""
    scenes = [draw_scene(seed) for seed in range(8)]
    files = [scene.encoded() for scene in scenes]
    images = at_once([lambda data=data: segmenter.see("alice", data) for data in files])
    assert sum(watched.embedded) == 8
    assert len(watched.embedded) < 8
    assert max(watched.embedded) <= watched.images_per_batch

    def ask(place: int) -> list[SegmentedMask]:
        prompt = ConceptPrompt("shape" if place % 2 else "star")
        return segmenter.concepts(images[place], [prompt], floor=0.1 * (1 + place))

    alone = [ask(place) for place in range(8)]
    watched.segmented.clear()
    together = at_once([lambda place=place: ask(place) for place in range(8)])
    assert sum(watched.segmented) == 8
    assert len(watched.segmented) < 8
    for ours, theirs in zip(together, alone, strict=True):
        assert [one.score for one in ours] == pytest.approx([one.score for one in theirs], abs=1e-4)
        for one, other in zip(ours, theirs, strict=True):
            differing = pixels_of(one.rle) != pixels_of(other.rle)
            assert differing.mean() < 1e-4


def test_one_image_asked_for_by_many_at_once_is_embedded_once(
    watched: Watched, segmenter: Segmenter
) -> None:
    data = draw_scene(0).encoded()
    images = at_once([lambda: segmenter.see("alice", data)] * 6)
    assert watched.embedded == [1]
    assert set(images) == {images[0]}
    assert (segmenter.hits, segmenter.misses) == (5, 1)


def test_a_broken_or_too_large_image_is_an_error_with_its_code(segmenter: Segmenter) -> None:
    large = Image.new("L", (2000, 2000))
    large.save(buffer := BytesIO(), "PNG")
    for data, code in (
        (b"", ImageErrorCode.TRUNCATED),
        (b"no image", ImageErrorCode.UNSUPPORTED),
        (buffer.getvalue(), ImageErrorCode.TOO_LARGE),
    ):
        with pytest.raises(ImageError) as raised:
            segmenter.see("alice", data)
        assert raised.value.code == code


def test_a_fault_of_the_engine_is_raised_and_does_not_stay(
    engine: Engine, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw_scene(0).encoded()
    with monkeypatch.context() as patched:
        patched.setattr(engine, "embed", lambda squashed: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            segmenter.see("alice", data)
    assert segmenter.see("alice", data).width == 512


def test_a_closed_segmenter_says_so(engine: Engine) -> None:
    segmenter = segmenter_of(engine)
    segmenter.close()
    with pytest.raises(Closed):
        segmenter.see("alice", draw_scene(0).encoded())


def test_many_prompts_go_through_in_parts_and_keep_their_places(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = draw_scene(0)
    names = sorted({thing.name for thing in scene.objects})
    texts = [ConceptPrompt(name) for name in ("dog", *names, *names)]
    pointed = [Pointed((Point(x, 99),), None, True, None) for x in range(100, 400, 50)]

    def found() -> tuple[int, Any]:
        segmenter = segmenter_of(watched := Watched(engine))
        image = segmenter.see("alice", scene.encoded())
        concepts = segmenter.concepts(image, texts, floor=0.5)
        objects = segmenter.objects(image, pointed)
        segmenter.close()
        return len(watched.segmented), [(one.prompt, one.rle) for one in concepts + objects]

    calls, whole = found()
    assert calls == 2
    monkeypatch.setattr("workers.interactive.segmenter._CONCEPTS_AT_ONCE", 2)
    monkeypatch.setattr("workers.interactive.segmenter._OBJECTS_AT_ONCE", 2)
    calls, parts = found()
    assert calls == -(-len(texts) // 2) + 3
    assert parts == whole


def test_what_nobody_awaits_any_more_ends_before_the_next_part(
    segmenter: Segmenter, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw_scene(0).encoded()
    past = time.monotonic() - 1
    with pytest.raises(TimeoutError):
        segmenter.see("alice", data, deadline=past)
    assert watched.embedded == []
    image = segmenter.see("alice", data)
    with pytest.raises(TimeoutError):
        segmenter.concepts(image, [ConceptPrompt("star")], floor=0.5, deadline=past)
    pointed = [Pointed((Point(9, 9),), None, True, None)] * 4
    with pytest.raises(TimeoutError):
        segmenter.objects(image, pointed, deadline=past)
    assert watched.segmented == []

    def slow(images: Sequence[Any]) -> Any:
        watched.segmented.append(len(images))
        time.sleep(0.2)
        return watched.engine.segment(images)

    monkeypatch.setattr("workers.interactive.segmenter._OBJECTS_AT_ONCE", 1)
    monkeypatch.setattr(segmenter._objects, "_work", slow)
    with pytest.raises(TimeoutError):
        segmenter.objects(image, pointed, deadline=time.monotonic() + 0.1)
    assert watched.segmented == [1]
