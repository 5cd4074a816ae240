from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Sam3Processor

from domain.geometry import Box, Point
from domain.prompts import ConceptPrompt, MaskPrompt, Prompt
from maskmill.sample_scenes import Scene, draw_scene
from tests.unit.workers.engine.masks import iou
from workers.engine import text
from workers.engine.engine import Found, ImageInput
from workers.engine.network import Network
from workers.engine.text import TextEncoder

DEMO = "workers/engine/demo_sam3"


def input_of(network: Network, image: Image.Image, *prompts: Prompt) -> ImageInput:
    return ImageInput(network.squash(np.array(image)), image.width, image.height, prompts)


def segment(network: Network, scene: Scene, *prompts: Prompt, floor: float = 0.5) -> list[Found]:
    return network.segment([input_of(network, scene.image, *prompts)], floor=floor)[0]


def small(mask: np.ndarray, side: int = 64) -> np.ndarray:
    """A mask at the network's own size."""
    return np.asarray(Image.fromarray(mask).resize((side, side)))


def fresh_text_encoder(network: Network) -> TextEncoder:
    """With an empty cache."""
    own = network._concepts.text_encoder
    return TextEncoder(own._encoder, own._projection, network.tokenizer_json)


@pytest.fixture
def count_rows(network: Network, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[int]]:
    """Counts what goes through a stage: the batch size of each call."""

    def watch(path: str) -> list[int]:
        owner: Any = network._concepts
        *way, name = path.split(".")
        for step in way:
            owner = getattr(owner, step)
        calls: list[int] = []
        original = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.append(len(args[0]))
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
        return calls

    return watch


@pytest.mark.parametrize("size", [(512, 512), (300, 777), (1080, 1920), (100, 50), (256, 256)])
def test_preprocessing_is_bit_for_bit_that_of_the_stock_processor(
    network: Network, size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    stock = Sam3Processor.from_pretrained(DEMO).image_processor
    expected = stock(images=Image.fromarray(pixels), return_tensors="pt").pixel_values
    ours = network._preprocessing.normalise(network.squash(pixels)[None])
    assert torch.equal(ours, expected)


def test_texts_are_tokenised_as_by_the_stock_processor(network: Network) -> None:
    stock = Sam3Processor.from_pretrained(DEMO).tokenizer
    encoder = network._concepts.text_encoder
    for words in ("red circle", "a  Green\tSTAR", "unknown word", "ring", "ﬁ ①"):
        assert encoder._tokenizer.encode(words).ids == stock(words).input_ids


def test_every_drawn_object_is_found_by_its_name(network: Network) -> None:
    for seed in range(6):
        scene = draw_scene(seed)
        names = sorted({thing.name for thing in scene.objects})
        found = segment(network, scene, *(ConceptPrompt(name) for name in names))
        for position, name in enumerate(names):
            drawn = [thing for thing in scene.objects if thing.name == name]
            masks = [one.mask.numpy() > 0 for one in found if one.prompt == position]
            assert len(masks) == len(drawn), f"scene {seed}: {name}"
            for thing in drawn:
                assert max(iou(mask, small(thing.mask)) for mask in masks) > 0.8


def test_what_is_not_there_is_not_found(network: Network) -> None:
    for seed in range(6):
        scene = draw_scene(seed)
        present = {thing.colour for thing in scene.objects} | {"white", "yellow"}
        absent = [colour for colour in ("red", "green", "blue", "purple") if colour not in present]
        prompts = [ConceptPrompt(words) for words in ("dog", *(f"{c} circle" for c in absent))]
        assert segment(network, scene, *prompts) == []


def test_an_exemplar_box_finds_the_object_in_it(network: Network) -> None:
    scene = draw_scene(0)
    thing = scene.objects[0]
    found = segment(network, scene, ConceptPrompt(None, (Box(*thing.box),), (True,)))
    assert max(iou(one.mask.numpy() > 0, small(thing.mask)) for one in found) > 0.8


def test_a_click_and_a_box_give_one_mask_each_of_the_object_meant(network: Network) -> None:
    for seed in range(6):
        scene = draw_scene(seed)
        for thing in scene.objects:
            click = MaskPrompt(None, (Point(*thing.centre),))
            box = MaskPrompt(Box(*thing.box))
            found = segment(network, scene, click, box, floor=1.0)  # a floor is for concepts
            assert sorted(one.prompt for one in found) == [0, 1]
            assert all(0 <= one.score <= 1 for one in found)
            assert all(iou(one.mask.numpy() > 0, small(thing.mask)) > 0.6 for one in found)


def test_a_negative_click_takes_part_in_the_answer(network: Network) -> None:
    scene = draw_scene(0)
    one, other = scene.objects[:2]
    prompt = MaskPrompt(None, (Point(*one.centre), Point(*other.centre, positive=False)))
    (found,) = segment(network, scene, prompt)
    assert iou(found.mask.numpy() > 0, small(one.mask)) > 0.6
    assert not (found.mask.numpy() > 0)[small(other.mask)].any()


def test_boxes_are_clipped_to_the_image(network: Network) -> None:
    scene = draw_scene(0)
    beyond, clipped = Box(-50, -60, 200, 9_000), Box(0, 0, 200, 512)
    for make in (lambda box: ConceptPrompt(None, (box,), (True,)), MaskPrompt):
        one, other = (segment(network, scene, make(box), floor=0.1) for box in (beyond, clipped))
        assert [found.score for found in one] == [found.score for found in other]
        assert len(one) > 0


def test_a_prompt_wholly_outside_the_image_finds_nothing(network: Network) -> None:
    outside = Box(600, 600, 700, 700)
    prompts = (
        ConceptPrompt(None, (outside,), (True,)),
        MaskPrompt(outside),
        MaskPrompt(None, (Point(512, 10),)),
    )
    assert segment(network, draw_scene(0), *prompts, floor=0.0) == []


def test_a_text_stands_alone_when_its_boxes_are_outside(network: Network) -> None:
    scene = draw_scene(0)
    with_box = ConceptPrompt("star", (Box(600, 600, 700, 700),), (True,))
    assert [f.score for f in segment(network, scene, with_box)] == [
        f.score for f in segment(network, scene, ConceptPrompt("star"))
    ]


def test_images_in_a_batch_do_not_change_each_other(network: Network) -> None:
    """Images of different sizes, prompts of every kind, more than one pass of 16 pairs."""
    scenes = [draw_scene(seed, size=size) for seed, size in ((1, 512), (2, 300), (3, 700))]
    inputs = []
    for scene in scenes:
        thing = scene.objects[0]
        prompts: tuple[Prompt, ...] = (
            ConceptPrompt("star"),
            ConceptPrompt("the white shape"),
            ConceptPrompt(None, (Box(*thing.box),), (True,)),
            ConceptPrompt(
                thing.shape, tuple(Box(*t.box) for t in scene.objects[:2]), (True, False)
            ),
            MaskPrompt(Box(*thing.box), (Point(*thing.centre),)),
            *(ConceptPrompt(colour) for colour in ("red", "blue", "green", "yellow")),
        )
        inputs.append(input_of(network, scene.image, *prompts))
    together = network.segment(inputs, floor=0.2)
    assert sum(map(len, together)) > 6
    for batched, alone in zip(together, inputs, strict=True):
        (expected,) = network.segment([alone], floor=0.2)
        assert [one.prompt for one in batched] == [one.prompt for one in expected]
        for one, other in zip(batched, expected, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert iou(one.mask.numpy() > 0, other.mask.numpy() > 0) > 0.995


def test_every_mask_comes_with_the_place_of_its_image(network: Network) -> None:
    inputs = [input_of(network, draw_scene(s).image, ConceptPrompt("shape")) for s in range(3)]
    for place, found in enumerate(network.segment(inputs, floor=0.2)):
        assert {one.image for one in found} <= {place}


def test_masks_are_made_only_for_pairs_that_pass_the_gate(
    network: Network, count_rows: Callable[[str], list[int]]
) -> None:
    calls = count_rows("mask_decoder.forward")
    scene = draw_scene(0)
    absent = [ConceptPrompt("dog"), ConceptPrompt("purple ring")]
    segment(network, scene, *absent)
    assert calls == []
    found = segment(network, scene, ConceptPrompt("yellow star"), *absent)
    assert {one.prompt for one in found} == {0}
    assert sum(calls) == 1


def test_the_vit_runs_once_for_all_prompts_of_an_image(
    network: Network, count_rows: Callable[[str], list[int]]
) -> None:
    calls = count_rows("vit.forward")
    scene = draw_scene(0)
    prompts = [ConceptPrompt(f"{colour} star") for colour in ("red", "blue", "green", "white")] * 5
    segment(network, scene, *prompts, MaskPrompt(Box(*scene.objects[0].box)))
    assert calls == [1]


def test_a_text_is_encoded_once(
    network: Network, count_rows: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = fresh_text_encoder(network)
    calls = count_rows("text_encoder._encoder.forward")
    features: list[int] = []
    original = encoder._compute
    monkeypatch.setattr(
        encoder, "_compute", lambda texts: features.append(len(texts)) or original(texts)
    )
    with torch.inference_mode():
        first = encoder.encode(["red circle", "star", "red circle"])
        again = encoder.encode(["star", "red circle"])
    assert features == [2]
    assert len(calls) == 1
    assert again[0] is first[1]
    assert again[1] is first[0]


def test_texts_encoded_together_come_out_as_if_alone(network: Network) -> None:
    together, alone = fresh_text_encoder(network), fresh_text_encoder(network)
    words = ["red", "a yellow star", "the black ring shape"]
    with torch.inference_mode():
        for features, text_alone in zip(together.encode(words), words, strict=True):
            (expected,) = alone.encode([text_alone])
            assert torch.allclose(features, expected, atol=1e-5)


def test_the_text_cache_is_bounded(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_CACHED_TEXTS", 3)
    encoder = fresh_text_encoder(network)
    with torch.inference_mode():
        for number in range(10):
            encoder.encode([f"red {number}"])
    assert list(encoder._cache) == ["red 7", "red 8", "red 9"]


def test_a_text_that_the_network_would_cut_is_an_error(network: Network) -> None:
    with pytest.raises(ValueError, match="42 tokens, at most 32"):
        segment(network, draw_scene(0), ConceptPrompt(" ".join(["red"] * 40)))
