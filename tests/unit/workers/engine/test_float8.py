import numpy as np
import torch
from torch import nn

from domain.prompts import ConceptPrompt
from maskmill.sample_scenes import draw_scene
from tests.unit.workers.engine.masks import iou
from workers.engine.engine import ImageInput
from workers.engine.float8 import Float8Linear, use_float8
from workers.engine.network import Network, load


def test_a_float8_product_is_within_a_few_percent_also_beside_outliers() -> None:
    linear = nn.Linear(64, 32)
    tokens = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    tokens[0, 0] *= 1000  # one token's range is not the others'
    with torch.inference_mode():
        exact = linear(tokens)
        ours = Float8Linear(linear)(tokens)
    off = (ours - exact).norm(dim=-1) / exact.norm(dim=-1)
    assert ours.shape == exact.shape
    assert 0 < off.max() < 0.06


def test_only_layers_whose_sizes_suit_become_float8() -> None:
    stage = nn.ModuleDict({"fits": nn.Linear(32, 16), "odd": nn.Linear(30, 16)})
    use_float8(stage)
    assert isinstance(stage["fits"], Float8Linear)
    assert isinstance(stage["odd"], nn.Linear)


def test_a_float8_network_finds_the_same_instances(network: Network) -> None:
    rough = load("demo-sam3", device="cpu", precision="float8", threads=1)
    assert rough.details == "bfloat16 with a float8 ViT"
    prompts = (ConceptPrompt("star"), ConceptPrompt("red"), ConceptPrompt("dog"))
    for seed in range(2):
        image = ImageInput(network.squash(np.array(draw_scene(seed).image)), 512, 512, prompts, 0.5)
        expected, ours = (one.segment([image])[0] for one in (network, rough))
        assert len(ours) == len(expected) > 0
        for one, other in zip(ours, expected, strict=True):
            assert abs(one.score - other.score) < 0.05
            assert iou((one.mask > 0).numpy(), (other.mask > 0).numpy()) > 0.95
