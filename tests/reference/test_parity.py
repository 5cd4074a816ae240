"""Meta's code against transformers' code and ours, on the same weights, on the CPU."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from domain.geometry import Box, Point
from domain.prompts import ConceptPrompt, MaskPrompt, Prompt
from maskmill.sample_scenes import Scene, draw_scene
from tests.reference.meta_networks import OnTheCpu, load_into, meta_network
from tests.unit.workers.engine.random_network import PATCH, SIDE, as_published, random_models
from workers.engine import load_engine
from workers.engine.checkpoint import Checkpoint, load_checkpoint
from workers.engine.coordinates import clicks, objects
from workers.engine.engine import Engine, Found, ImageInput, Pointed
from workers.engine.reference import Reference, ReferenceCheckpoint

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
FLOOR = 0.05


@pytest.fixture(autouse=True)
def _cpu() -> Iterator[None]:
    with OnTheCpu():
        yield


@pytest.fixture(scope="module")
def demo() -> Checkpoint:
    return load_checkpoint("demo-sam3", device=torch.device("cpu"))


@pytest.fixture(scope="module")
def reference(demo: Checkpoint) -> Reference:
    """Meta's code with the demo network's weights; concepts only."""
    state = load_file(Path("workers/engine/demo_sam3/model.safetensors"))
    detector = {name: t for name, t in state.items() if name.startswith("detector_model.")}
    with OnTheCpu():
        model = meta_network(demo.detector.config, tokenizer_json=demo.tokenizer_json, clicks=False)
        missing = load_into(model, detector)
    assert all("freqs_cis" in name or ".points_" in name for name in missing)
    return Reference(
        ReferenceCheckpoint("demo", model, 256, demo.tokenizer_json, "0"), dtype=torch.float32
    )


def look(engine: Engine, scene: Scene, prompts: Sequence[Prompt | Pointed]) -> list[Found]:
    pixels = np.array(scene.image)
    height, width = pixels.shape[:2]
    image = ImageInput(engine.squash(pixels), width, height, tuple(prompts), FLOOR)
    (found,) = engine.segment([image])
    return sorted(found, key=lambda one: (one.prompt, -one.score))


def boxes_of(scene: Scene, count: int) -> dict[str, Any]:
    boxes = tuple(Box(*thing.box) for thing in scene.objects[:count])
    return {"boxes": boxes, "box_labels": (True, False, True)[: len(boxes)]}


def prompts_with_boxes(scene: Scene) -> list[Prompt]:
    """More than one pass of 16, with one, two and three boxes side by side."""
    names = [thing.name for thing in scene.objects] * 9
    return [
        ConceptPrompt(name if number % 2 else None, **boxes_of(scene, 1 + number % 3))
        for number, name in enumerate(names[:18])
    ]


def inside(mask: Any) -> torch.Tensor:
    return torch.as_tensor(mask) > 0


def agree(ours: list[Found], theirs: list[Found], *, score: float, pixels: float) -> None:
    assert [one.prompt for one in ours] == [one.prompt for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.score == pytest.approx(other.score, abs=score)
        differing = (inside(one.mask) != inside(other.mask)).float().mean()
        assert differing <= pixels


@pytest.mark.parametrize("seed", [1001, 1002, 1003])
def test_prompts_with_boxes_agree_with_our_engine(
    reference: Reference, ours: Engine, seed: int
) -> None:
    scene = draw_scene(seed)
    prompts = prompts_with_boxes(scene)
    found = look(ours, scene, prompts)
    assert len(found) > len(prompts)  # worth comparing
    agree(found, look(reference, scene, prompts), score=1e-4, pixels=1e-3)


@pytest.fixture(scope="module")
def ours() -> Engine:
    return load_engine("demo-sam3", device="cpu", threads=1)


@pytest.mark.parametrize("seed", [1001, 1002, 1003])
def test_texts_agree_with_transformers_given_an_empty_exemplar(
    reference: Reference, demo: Checkpoint, seed: int
) -> None:
    """Meta's code puts the geometry encoder's class token behind every text. transformers does so
    only where it is given a box; one that is marked as padding (-10) will do."""
    scene = draw_scene(seed)
    names = [*dict.fromkeys(thing.name for thing in scene.objects), "blue", "dog"]
    found = look(reference, scene, [ConceptPrompt(name) for name in names])
    pixels = demo.image_processor(images=scene.image, return_tensors="pt").pixel_values
    expected = [one for name in names for one in stock(demo, pixels, name)]
    assert len(expected) > 3
    assert [one.score for one in found] == pytest.approx([one for one, _ in expected], abs=1e-4)
    for one, (_, mask) in zip(found, expected, strict=True):
        assert (inside(one.mask) != inside(mask)).float().mean() <= 1e-3


@torch.inference_mode()
def stock(demo: Checkpoint, pixels: torch.Tensor, text: str) -> list[tuple[float, torch.Tensor]]:
    from tokenizers import Tokenizer

    ids = torch.tensor([Tokenizer.from_str(demo.tokenizer_json).encode(text).ids])
    output = demo.detector(
        pixel_values=pixels,
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        input_boxes=torch.zeros(1, 1, 4),
        input_boxes_labels=torch.tensor([[-10]]),
    )
    scores = (output.pred_logits.sigmoid() * output.presence_logits.sigmoid())[0]
    kept = (scores >= FLOOR).nonzero()[:, 0].tolist()
    found = [(float(scores[one]), output.pred_masks[0, one]) for one in kept]
    return sorted(found, key=lambda one: -one[0])


def test_texts_find_what_our_engine_finds(reference: Reference, ours: Engine) -> None:
    """Without that token scores are some hundredths off, and the instances are the same."""
    scene = draw_scene(1001)
    prompts: list[Prompt] = [ConceptPrompt(name) for name in {o.name for o in scene.objects}]
    mine, theirs = (
        [one for one in look(engine, scene, prompts) if one.score > 0.5]
        for engine in (ours, reference)
    )
    assert mine
    agree(mine, theirs, score=0.05, pixels=0.01)


def test_what_finds_nothing_says_so(reference: Reference) -> None:
    scene = draw_scene(1001)
    outside = ConceptPrompt(None, (Box(5000, 5000, 5100, 5100),), (True,))
    assert look(reference, scene, [outside]) == []
    assert look(reference, scene, []) == []


@pytest.fixture(scope="module")
def random_pair() -> tuple[Any, Any, Reference]:
    """transformers' two classes and Meta's code, on the same random weights."""
    detector, tracker = random_models()
    tokenizer_json = load_checkpoint("demo-sam3", device=torch.device("cpu")).tokenizer_json
    with OnTheCpu():
        model = meta_network(detector.config, tokenizer_json=tokenizer_json, clicks=True)
        load_into(model, as_published(detector, tracker))
    model.inst_interactive_predictor._transforms.max_hole_area = 0  # needs a GPU or scikit-image
    return (
        detector,
        tracker,
        Reference(
            ReferenceCheckpoint("random", model, SIDE, tokenizer_json, "0"), dtype=torch.float32
        ),
    )


def test_a_random_network_of_other_sizes_sees_the_same(
    random_pair: tuple[Any, Any, Reference],
) -> None:
    detector, _, reference = random_pair
    torch.manual_seed(1)
    pixels = torch.rand(1, 3, SIDE, SIDE) * 2 - 1
    ids = torch.tensor([[1, 7, 9, 12, 2]])
    boxes, labels = torch.rand(1, 2, 4) / 2, torch.tensor([[1, 0]])
    with torch.inference_mode():
        ours = detector(
            pixel_values=pixels,
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            input_boxes=boxes,
            input_boxes_labels=labels,
        )
        theirs = meta_forward(reference._model, pixels, ids, boxes, labels)
    for mine, other in (
        (ours.pred_logits, theirs["pred_logits"][..., 0]),
        (ours.presence_logits, theirs["presence_logit_dec"]),
        (ours.pred_boxes, theirs["pred_boxes_xyxy"]),
        (ours.pred_masks, theirs["pred_masks"]),
    ):
        assert mine.std() > 1e-4 or mine.numel() == 1  # a constant would prove nothing
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


def meta_forward(
    model: Any, pixels: torch.Tensor, ids: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor
) -> Any:
    from sam3.model.data_misc import FindStage
    from sam3.model.geometry_encoders import Prompt as Geometry

    tokens = torch.zeros(1, 32, dtype=torch.long)
    tokens[:, : ids.shape[1]] = ids
    model.backbone.language_backbone.tokenizer = lambda texts, context_length: tokens
    stage = FindStage(torch.tensor([0]), torch.tensor([0]), *[None] * 5)
    geometry = Geometry(
        box_embeddings=boxes.transpose(0, 1),
        box_mask=torch.zeros(1, boxes.shape[1], dtype=torch.bool),
        box_labels=labels.T,
    )
    seen = {
        **model.backbone.forward_image(pixels),
        **model.backbone.forward_text(["x"], device="cpu"),
    }
    return model.forward_grounding(
        backbone_out=seen, find_input=stage, find_target=None, geometric_prompt=geometry
    )


def test_clicks_and_boxes_of_a_random_network_give_the_same_masks(
    random_pair: tuple[Any, Any, Reference],
) -> None:
    _, tracker, reference = random_pair
    scene = draw_scene(1001)
    earlier = np.random.default_rng(0).normal(0, 30, (4 * SIDE // PATCH, 4 * SIDE // PATCH))
    earlier = earlier.clip(-32, 32).astype(np.float32)
    click = Pointed((Point(40, 50),))
    prompts: list[Prompt | Pointed] = [
        MaskPrompt(None, (Point(40, 50), Point(90, 100, positive=False))),
        MaskPrompt(Box(20, 30, 150, 160)),
        MaskPrompt(Box(20, 30, 150, 160), (Point(60, 70),)),
        Pointed((Point(-5, 900),), (150, 160, -20, 30)),
        Pointed(),
        replace(click, multimask=False),
        replace(click, previous=earlier),
    ]
    theirs = look(reference, scene, prompts)
    assert [one.prompt for one in theirs] == list(range(len(prompts)))
    width, height = scene.image.size
    image = ImageInput(reference.squash(np.array(scene.image)), width, height, tuple(prompts), 0.0)
    with torch.inference_mode():
        levels = tracker.get_image_embeddings(image.pixels[None] / 127.5 - 1)
        for (_, prompt), found in zip(objects(image), theirs, strict=True):
            points = torch.tensor([[clicks(prompt, width=width, height=height, side=SIDE)]])
            mask = None if prompt.previous is None else torch.from_numpy(earlier)[None, None]
            output = tracker(
                image_embeddings=levels,
                input_points=points[..., :2],
                input_labels=points[..., 2].int(),
                input_masks=mask,
                multimask_output=prompt.multimask,
            )
            scores = output.iou_scores.flatten()
            assert found.score == pytest.approx(float(scores.max()), abs=1e-4)
            expected = output.pred_masks[0, 0, scores.argmax()]
            torch.testing.assert_close(found.mask, expected, rtol=1e-3, atol=1e-3)
            if found.logits is not None:
                logits = torch.from_numpy(found.logits)
                torch.testing.assert_close(logits, expected.clamp(-32, 32), rtol=1e-3, atol=1e-3)
    assert [one.prompt for one in theirs if one.logits is not None] == [3, 4, 5, 6]
