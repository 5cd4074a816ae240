"""What compiling for CUDA leans on, shown without a GPU: with backend="eager" the stages are
traced as they are there, and only the last step, making kernels, is left out."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from domain.prompts import ConceptPrompt
from maskmill.sample_scenes import draw_scene
from tests.unit.workers.engine.plain_path import twins
from workers.engine import warm_up
from workers.engine.engine import Found, ImageInput
from workers.engine.network import Network
from workers.engine.passes import PassSizes

# Traced at most twice each: for one row, which is always a case of its own, and for any number.
MOST_GRAPHS = 2 * len(warm_up._STEPS)
TEXTS = ("star", "the red circle", "a the yellow star", "blue", "a red the blue ring shape", "dog")


@pytest.fixture(autouse=True)
def fresh_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "unused")  # restored, should it not be set
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


def scenes(network: Network, *, images: int, prompts: int) -> list[ImageInput]:
    found = []
    for seed in range(images):
        texts = (TEXTS[(seed + number) % len(TEXTS)] for number in range(prompts))
        pixels = np.array(draw_scene(seed, size=128).image)
        asked = tuple(ConceptPrompt(text) for text in texts)
        found.append(ImageInput(network.squash(pixels), 128, 128, asked, 0.0))
    return found


def assert_same(ours: list[list[Found]], theirs: list[list[Found]]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for our, their in zip(one, other, strict=True):
            assert our.prompt == their.prompt
            assert our.score == pytest.approx(their.score, abs=1e-5)
            assert torch.allclose(our.mask, their.mask, atol=1e-4)


def test_two_graphs_a_stage_serve_every_batch_size_and_prompt_length() -> None:
    """fullgraph=True raises where a stage is not one graph."""
    plain, compiled = twins("three levels").network, twins("three levels").network
    warm_up.compile_stages(compiled._concepts, backend="eager")
    for images, prompts in ((2, 2), (1, 2), (1, 1)):  # as warm_up does
        compiled.segment(scenes(compiled, images=images, prompts=prompts))
    warm = counters["stats"]["unique_graphs"]
    assert warm >= len(warm_up._STEPS)
    for images, prompts in ((3, 3), (1, 5), (5, 1), (4, 6), (1, 1), (2, 9), (7, 2)):
        inputs = scenes(compiled, images=images, prompts=prompts)
        expected = plain.segment(inputs)
        assert sum(map(len, expected)) == images * prompts * plain.limits.queries
        assert_same(compiled.segment(inputs), expected)
    assert counters["stats"]["unique_graphs"] <= MOST_GRAPHS
    assert not counters["graph_break"]
    assert not counters["recompile_limit"]


def test_without_memory_to_measure_everything_goes_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> PassSizes:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(warm_up, "warm_up", refuse)
    stages = twins("three levels").stages
    sizes, how = warm_up.prepare(stages, image_size=64)
    assert sizes == PassSizes(1, 1, 1)
    assert "too little memory" in how
