import gc
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskmill.inference import Box, ConceptPrompt, ImageError, Mask, ObjectPrompt, Sam3
from maskmill.sample_scenes import Scene, draw_scene
from tests.unit.workers.engine.masks import iou

GUIDE = Path(__file__).parents[3] / "docs/how-to/python.md"


@pytest.fixture(scope="module")
def sam() -> Iterator[Sam3]:
    with Sam3(device="cpu") as made:
        yield made


@pytest.fixture(scope="module")
def scene() -> Scene:
    return draw_scene(0)


def assert_same(ours: list[Mask], theirs: list[Mask]) -> None:
    assert [one.prompt for one in ours] == [one.prompt for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert iou(one.mask, other.mask) > 0.999


def test_named_shapes_are_found_with_label_box_and_area(sam: Sam3, scene: Scene) -> None:
    names = sorted({thing.name for thing in scene.objects})
    found = sam.segment_image(scene.encoded(), ["dog", *names])
    assert [one.label for one in found] == [["dog", *names][one.prompt] for one in found]
    assert len(found) == len(scene.objects)
    for thing in scene.objects:
        (best,) = (one for one in found if iou(one.mask, thing.mask) > 0.8)
        assert best.label == thing.name
        assert best.area == best.mask.sum()
        assert best.box == tuple(coco_mask.toBbox(best.rle))


def test_an_image_may_come_in_every_form(sam: Sam3, scene: Scene, tmp_path: Path) -> None:
    data = scene.encoded()
    (path := tmp_path / "scene.png").write_bytes(data)
    pixels = np.asarray(scene.image)
    forms = [path, str(path), data, pixels, scene.image, scene.image.convert("RGBA")]
    expected = sam.segment_image(data, ["shape"])
    assert expected
    for form in [*forms, sam.embed_image(path)]:
        assert_same(sam.segment_image(form, ["shape"]), expected)


def test_a_file_is_put_upright_and_a_pillow_image_is_taken_as_it_is(
    sam: Sam3, scene: Scene, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = scene.image.crop((0, 0, 512, 300))
    wide.save(tmp_path / "turned.png", exif=exif)
    upright = sam.embed_image(tmp_path / "turned.png")
    with Image.open(tmp_path / "turned.png") as opened:
        lying = sam.embed_image(opened)
    assert (upright.width, upright.height) == (300, 512)
    assert (lying.width, lying.height) == (512, 300)


@pytest.mark.parametrize(
    "array", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((3, 8, 8), np.uint8)]
)
def test_an_array_of_another_kind_is_refused_in_words(sam: Sam3, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="height x width x 3, uint8, RGB"):
        sam.embed_image(array)


def test_a_prompt_has_its_own_threshold_or_that_of_the_call(sam: Sam3, scene: Scene) -> None:
    prompts = [ConceptPrompt("star"), ConceptPrompt("star", threshold=0.05)]
    found = sam.segment_image(scene.image, prompts, threshold=0.6)
    of_call, own = ([one.score for one in found if one.prompt == n] for n in (0, 1))
    assert min(of_call) >= 0.6
    assert 0.05 <= min(own) < 0.6
    assert [score for score in own if score >= 0.6] == pytest.approx(of_call)


def test_exemplars_find_what_they_show(sam: Sam3, scene: Scene) -> None:
    thing = scene.objects[0]
    prompt = ConceptPrompt(None, (Box(*thing.box),), (True,), class_name="part")
    found = sam.segment_image(scene.image, [prompt])
    assert {one.label for one in found} == {"part"}
    assert max(iou(one.mask, thing.mask) for one in found) > 0.8


def test_objects_are_found_by_points_boxes_and_corrections(sam: Sam3, scene: Scene) -> None:
    one, other = scene.objects[:2]
    image = sam.embed_image(scene.image)
    prompts = [
        ObjectPrompt(points=[one.centre]),
        ObjectPrompt(points=[one.centre], negative=[other.centre], multimask=False),
        ObjectPrompt(box=other.box),
        ObjectPrompt(),
    ]
    found = sam.segment_objects(image, prompts)
    assert [mask.prompt for mask in found] == [0, 1, 2, 3]
    for mask, thing in zip(found, (one, one, other), strict=False):
        assert iou(mask.mask, thing.mask) > 0.8
    (corrected,) = sam.segment_objects(image, [ObjectPrompt([one.centre], previous=found[2])])
    assert corrected.score != found[0].score


def test_a_list_is_answered_in_its_order(sam: Sam3) -> None:
    scenes = [draw_scene(seed) for seed in range(5)]
    images = [scene.image for scene in scenes]
    for found, image in zip(sam.segment_image(images, ["shape"]), images, strict=True):
        assert_same(found, sam.segment_image(image, ["shape"]))
    embedded = sam.embed_image(images)
    clicks = [[ObjectPrompt([thing.centre]) for thing in scene.objects] for scene in scenes]
    for scene, found in zip(scenes, sam.segment_objects(embedded, clicks), strict=True):
        overlaps = [
            iou(one.mask, thing.mask) for one, thing in zip(found, scene.objects, strict=True)
        ]
        assert np.mean(overlaps) > 0.8


def test_as_many_lists_of_prompts_as_images(sam: Sam3, scene: Scene) -> None:
    with pytest.raises(ValueError, match="zip"):
        sam.segment_objects([scene.image, scene.image], [[ObjectPrompt()]])


def test_a_broken_image_raises_its_code_and_a_missing_one_what_python_says(
    sam: Sam3, scene: Scene, tmp_path: Path
) -> None:
    for images in (b"no image", [scene.image, b"no image"]):
        with pytest.raises(ImageError) as raised:
            sam.segment_image(images, ["star"])
        assert raised.value.code == "unsupported"
    with pytest.raises(FileNotFoundError):
        sam.embed_image(tmp_path / "absent.png")


def test_the_examples_of_the_guide_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    names["sam"].close()
    assert "yellow star" in capsys.readouterr().out
    thing = names["scene"].objects[0]
    assert {one.label for one in names["masks"]} >= {"star", "part"}
    for mask in (names["by_click"], names["corrected"]):
        assert iou(mask.mask, thing.mask) > 0.8
    assert names["stars"]


def test_importing_it_does_not_load_torch() -> None:
    code = "import sys, maskmill.inference; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_score_equal_to_the_threshold_counts(sam: Sam3, scene: Scene) -> None:
    """As far as float32, in which the network says it, can tell."""
    (best, *_) = sam.segment_image(scene.image, [scene.objects[0].name], threshold=0.1)
    written = float(f"{best.score:.8f}") + 1e-9
    assert np.float32(written) == np.float32(best.score)
    found = sam.segment_image(scene.image, [scene.objects[0].name], threshold=written)
    assert best.score in [one.score for one in found]


def test_what_nobody_refers_to_lets_go_of_its_threads_and_its_network() -> None:
    dropped = Sam3("demo-sam3", device="cpu")
    network = weakref.ref(dropped._segmenter._engine)
    del dropped
    gc.collect()
    assert network() is None
