"""Our instances and those of the stock Sam3Model + Sam3Processor are the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from transformers import Sam3Model, Sam3Processor
from transformers.utils import logging

from domain.geometry import Box
from domain.prompts import ConceptPrompt
from maskmill.sample_scenes import COLOURS, SHAPES, Scene, draw_scene
from workers.engine.network import Network
from workers.engine.pipeline import ImageTask, Pipeline

DEMO = "workers/engine/demo_sam3"
FLOOR = 0.1
PROMPTS = 16
SCENES = {"text": 40, "boxes": 10, "text and boxes": 10}
SCENES_PER_TEST = 10  # parts, for tests side by side
SIZES = (512, 200, 333, 256)  # of the scenes, in turn


@dataclass(frozen=True)
class Stock:
    model: Any
    processor: Any


@pytest.fixture(scope="module")
def stock() -> Iterator[Stock]:
    logging.disable_progress_bar()
    yield Stock(
        Sam3Model.from_pretrained(DEMO, dtype=torch.float32).eval(),
        Sam3Processor.from_pretrained(DEMO),
    )
    logging.enable_progress_bar()


Answer = dict[int, list[tuple[float, Any]]]  # by prompt: score, RLE


@torch.inference_mode()
def stock_answers(
    stock: Stock, scene: Scene, prompts: list[ConceptPrompt], *, whole_forward: bool = False
) -> Answer:
    """As its documentation shows it: the vision features once, then a forward per prompt; with
    `whole_forward` the pixels again for every prompt."""
    pixels = stock.processor(images=scene.image, return_tensors="pt").pixel_values
    seen = (
        {"pixel_values": pixels}
        if whole_forward
        else {"vision_embeds": stock.model.get_vision_features(pixel_values=pixels)}
    )
    size = scene.image.size[::-1]
    answers: Answer = {}
    for index, prompt in enumerate(prompts):
        asked = stock.processor(
            text=prompt.text, original_sizes=[size], return_tensors="pt", **boxes_of(prompt)
        )
        del asked["original_sizes"]
        (result,) = stock.processor.post_process_instance_segmentation(
            stock.model(**seen, **asked), threshold=FLOOR, target_sizes=[size]
        )
        masks = result["masks"].to(torch.uint8).numpy()
        answers[index] = [
            (float(score), coco_mask.encode(np.asfortranarray(mask)))
            for score, mask in zip(result["scores"], masks, strict=True)
            if mask.any()
        ]
    return answers


def boxes_of(prompt: ConceptPrompt) -> dict[str, Any]:
    if not prompt.boxes:
        return {}
    corners = [[box.x0, box.y0, box.x1, box.y1] for box in prompt.boxes]
    return {"input_boxes": [corners], "input_boxes_labels": [list(map(int, prompt.box_labels))]}


def our_answers(network: Network, scenes: list[Scene], prompts: list[Any]) -> list[Answer]:
    pipeline = Pipeline(network, floor=FLOOR, max_pixels=10**6)
    tasks = [ImageTask(s.encoded, tuple(p)) for s, p in zip(scenes, prompts, strict=True)]
    answers: list[Answer] = []
    for outcome in pipeline.run(tasks):
        answer: Answer = {index: [] for index in range(PROMPTS)}
        for one in outcome.instances:
            rle = {"size": list(one.mask.size), "counts": one.mask.counts}
            answer[one.prompt_index].append((one.score, rle))
        answers.append(answer)
    return answers


def matched(ours: list[tuple[float, Any]], theirs: list[tuple[float, Any]]) -> int:
    """One to one: IoU of 0.98 or more and scores no more than 0.01 apart."""
    if not (ours and theirs):
        return 0
    overlaps = coco_mask.iou(
        [rle for _, rle in ours], [rle for _, rle in theirs], [0] * len(theirs)
    )
    free = set(range(len(theirs)))
    for row, (score, _) in zip(overlaps, ours, strict=True):
        fits = [k for k in free if row[k] >= 0.98 and abs(theirs[k][0] - score) <= 0.01]
        if fits:
            free.remove(max(fits, key=lambda k: row[k]))
    return len(theirs) - len(free)


def texts(scene: Scene, random: Random) -> list[str]:
    """Names of what is there, then names of what may not be, some unknown."""
    there = [thing.name for thing in scene.objects] + ["dog", scene.objects[0].colour]
    others = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    others += [*SHAPES, *COLOURS, "a red shape"]
    return [*there, *random.sample(others, PROMPTS)][:PROMPTS]


def exemplars(scene: Scene, random: Random) -> tuple[tuple[Box, ...], tuple[bool, ...]]:
    """One to three boxes around objects, a little off, or anywhere; the first is positive."""
    boxes, labels = [], []
    for number in range(random.randint(1, 3)):
        x0, y0, x1, y1 = random.choice(scene.objects).box
        if random.random() < 0.2:
            unit = scene.image.width / 512
            x0, y0 = random.uniform(0, 300) * unit, random.uniform(0, 300) * unit
            x1, y1 = x0 + random.uniform(20, 200) * unit, y0 + random.uniform(20, 200) * unit
        boxes.append(Box(x0, y0, x1 - random.uniform(0, 9), y1 + random.uniform(0, 0.01)))
        labels.append(number == 0 or random.random() < 0.5)
    return tuple(boxes), tuple(labels)


def prompts_for(kind: str, scene: Scene, seed: int) -> list[ConceptPrompt]:
    random = Random(seed)
    words = texts(scene, random)
    if kind == "text":
        return [ConceptPrompt(text) for text in words]
    if kind == "boxes":
        return [ConceptPrompt(None, *exemplars(scene, random)) for _ in words]
    return [ConceptPrompt(text, *exemplars(scene, random)) for text in words]


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        pytest.param(kind, first, marks=[pytest.mark.long] if first > SCENES_PER_TEST else [])
        for kind, count in SCENES.items()
        for first in range(0, count, SCENES_PER_TEST)
    ],
)
def test_instances_agree_with_the_stock_network(
    network: Network, stock: Stock, kind: str, first: int
) -> None:
    seeds = range(1000 + first, 1000 + first + SCENES_PER_TEST)
    scenes = [draw_scene(seed, size=SIZES[seed % len(SIZES)]) for seed in seeds]
    prompts = [prompts_for(kind, scene, seed) for scene, seed in zip(scenes, seeds, strict=True)]
    agreeing = total = 0
    for answer, scene, asked in zip(
        our_answers(network, scenes, prompts), scenes, prompts, strict=True
    ):
        expected = stock_answers(stock, scene, asked)
        for index in range(PROMPTS):
            agreeing += matched(answer[index], expected[index])
            total += max(len(answer[index]), len(expected[index]))
    assert total > 5 * len(scenes)  # the scenes and prompts are worth comparing
    assert agreeing >= 0.99 * total


def test_reusing_the_stock_vision_features_is_no_short_cut(stock: Stock) -> None:
    """The comparison above leans on it: the whole stock forward per prompt says the same."""
    scene = draw_scene(1000)
    for kind in ("text", "boxes", "text and boxes"):
        asked = prompts_for(kind, scene, 0)[:5]
        reused = stock_answers(stock, scene, asked)
        assert reused == stock_answers(stock, scene, asked, whole_forward=True)
