"""Pipelines of the demo network, and tasks for them."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from PIL import Image

from domain.prompts import ConceptPrompt, Prompt
from maskmill.sample_scenes import Scene
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
