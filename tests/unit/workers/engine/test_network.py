from collections.abc import Callable
from dataclasses import replace
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
from workers.engine.engine import Embedding, Found, ImageInput, Pointed
from workers.engine.network import Network
from workers.engine.text import TextEncoder

DEMO = "workers/engine/demo_sam3"


def input_of(
    network: Network, image: Image.Image, *prompts: Prompt | Pointed, floor: float = 0.5
) -> ImageInput:
    squashed = network.squash(np.array(image))
    return ImageInput(squashed, image.width, image.height, prompts, floor)


def segment(
    network: Network, scene: Scene, *prompts: Prompt | Pointed, floor: float = 0.5
) -> list[Found]:
    return network.segment([input_of(network, scene.image, *prompts, floor=floor)])[0]


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
        inputs.append(input_of(network, scene.image, *prompts, floor=0.2))
    together = network.segment(inputs)
    assert sum(map(len, together)) > 6
    for batched, alone in zip(together, inputs, strict=True):
        (expected,) = network.segment([alone])
        assert [one.prompt for one in batched] == [one.prompt for one in expected]
        for one, other in zip(batched, expected, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert iou(one.mask.numpy() > 0, other.mask.numpy() > 0) > 0.995


def test_every_mask_comes_with_the_place_of_its_image(network: Network) -> None:
    inputs = [input_of(network, draw_scene(s).image, ConceptPrompt("shape")) for s in range(3)]
    for place, found in enumerate(network.segment(inputs)):
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


def test_a_text_longer_than_the_network_reads_is_cut_and_keeps_its_end(network: Network) -> None:
    encoder = fresh_text_encoder(network)
    limit = network.limits.text_tokens
    whole, longer = (encoder._tokens(" ".join(["red"] * words)) for words in (limit - 2, 40))
    assert longer == whole
    assert longer[-1] == encoder._tokens("red")[-1]
    found = segment(network, draw_scene(0), ConceptPrompt("star " + "shape " * 40), floor=0.0)
    assert len(found) == network.limits.queries


def embedded(network: Network, scene: Scene) -> Embedding:
    (embedding,) = network.embed([network.squash(np.array(scene.image))])
    return embedding


def assert_same(ours: list[Found], theirs: list[Found]) -> None:
    assert [one.prompt for one in ours] == [one.prompt for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert torch.allclose(one.mask, other.mask, atol=1e-3)


def test_an_embedding_answers_as_its_image_does_and_spares_the_vit(
    network: Network, count_rows: Callable[[str], list[int]]
) -> None:
    scenes = [draw_scene(seed) for seed in range(3)]
    prompts = (ConceptPrompt("shape"), Pointed((Point(*scenes[0].objects[0].centre),)))
    seen = [input_of(network, scene.image, *prompts) for scene in scenes]
    expected = network.segment(seen)
    embeddings = network.embed([image.pixels for image in seen])
    calls = count_rows("vit.forward")
    recalled = [replace(one, pixels=e) for one, e in zip(seen, embeddings, strict=True)]
    mixed = [recalled[0], seen[1], recalled[2]]
    for images, rows in ((recalled, 0), (mixed, 1)):
        calls.clear()
        for ours, theirs in zip(network.segment(images), expected, strict=True):
            assert_same(ours, theirs)
        assert sum(calls) == rows


def test_images_are_embedded_a_pass_at_a_time(
    network: Network, count_rows: Callable[[str], list[int]]
) -> None:
    squashed = [network.squash(np.array(draw_scene(seed).image)) for seed in range(6)]
    calls = count_rows("vit.forward")
    embeddings = network.embed(squashed)
    assert calls == [network.images_per_batch, 6 - network.images_per_batch]
    for one in embeddings:
        assert one.byte_count == one.features.untyped_storage().nbytes()  # and no other's


def test_an_embedding_that_went_to_the_host_and_back_says_the_same(network: Network) -> None:
    scene = draw_scene(0)
    there = embedded(network, scene).to(torch.device("cpu")).to(network.device)
    image = replace(input_of(network, scene.image, ConceptPrompt("star")), pixels=there)
    assert_same(network.segment([image])[0], segment(network, scene, ConceptPrompt("star")))


def test_every_image_of_a_batch_has_a_floor_of_its_own(network: Network) -> None:
    scene = draw_scene(0)
    floors = (0.0, 0.3, 0.9, 1.1)
    images = [input_of(network, scene.image, ConceptPrompt("star"), floor=f) for f in floors]
    every, *rest = network.segment(images)
    assert len(every) == network.limits.queries
    assert [len(found) for found in rest] == [
        sum(one.score >= floor for one in every) for floor in floors[1:]
    ]
    assert len(rest[0]) > len(rest[2]) == 0


def test_pointed_prompts_of_every_form_get_one_mask_each_in_one_request(network: Network) -> None:
    scene = draw_scene(0)
    thing = scene.objects[0]
    prompts = (
        Pointed((Point(*thing.centre),)),
        Pointed(box=thing.box),
        Pointed((Point(*thing.centre),), thing.box, multimask=False),
        Pointed((Point(*thing.centre), Point(3, 3, positive=False))),
        Pointed((Point(*thing.centre, positive=False),)),
        Pointed((Point(-40, 9000),)),
        Pointed(box=(400.5, 300.0, -20.0, -10.0)),
        Pointed(),
    )
    found = segment(network, scene, *prompts, floor=1.1)
    assert sorted(one.prompt for one in found) == list(range(len(prompts)))
    for one in found:
        assert one.logits is not None
        assert np.array_equal(one.logits, one.mask.numpy())
        if one.prompt < 4:
            assert iou(one.mask.numpy() > 0, small(thing.mask)) > 0.6


def test_an_earlier_answer_takes_part_in_the_next(network: Network) -> None:
    """That it does so as in transformers is for test_savings; the demo network heeds it little."""
    scene = draw_scene(0)
    thing, other = scene.objects[:2]
    (earlier,) = segment(network, scene, Pointed(box=thing.box))
    click = Pointed((Point(*thing.centre), Point(*other.centre, positive=False)))
    alone, refined = segment(network, scene, click, replace(click, previous=earlier.logits))
    assert not torch.equal(refined.mask, alone.mask)
    assert iou(refined.mask.numpy() > 0, small(thing.mask)) > 0.8


def test_a_second_click_on_an_embedding_finds_the_first_ones_levels(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    neck = network._clicks._neck
    original = neck.forward
    monkeypatch.setattr(neck, "forward", lambda x: calls.append(len(x)) or original(x))
    scenes = [draw_scene(seed) for seed in range(2)]
    embeddings = [embedded(network, scene) for scene in scenes]
    for _ in range(3):
        for scene, embedding in zip(scenes, embeddings, strict=True):
            click = Pointed((Point(*scene.objects[0].centre),))
            image = input_of(network, scene.image, click)
            (ours,) = network.segment([replace(image, pixels=embedding)])
            assert_same(ours, network.segment([image])[0])
    assert len(calls) == 2 + 6  # images without an embedding are not remembered
    for _ in range(20):
        network.segment([replace(image, pixels=embedded(network, scenes[0]))])
    assert len(network._clicks._remembered) == 8


def test_threads_are_those_of_the_network_alone_and_can_be_had_back(network: Network) -> None:
    def now() -> int:
        image = input_of(network, draw_scene(0, size=64).image, ConceptPrompt("star"))
        network.segment([image])
        return network._thread.submit(torch.get_num_threads).result()

    here, usual = torch.get_num_threads(), now()
    try:
        network.use_threads(usual + 1)
        assert now() == usual + 1
        assert torch.get_num_threads() == here
    finally:
        network.use_threads(None)
    assert now() == usual
