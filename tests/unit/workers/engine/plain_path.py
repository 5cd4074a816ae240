"""Networks of several sizes, each twice on the same weights: as transformers runs it, one whole
forward per prompt and everything in it computed, and as the engine does."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model

from domain.geometry import Box
from domain.prompts import VISUAL_TEXT, ConceptPrompt
from maskmill.sample_scenes import draw_scene
from tests.unit.workers.engine.random_network import VISION, random_models, sam3_config
from workers.engine.checkpoint import DEMO_MODEL, Checkpoint, load_checkpoint
from workers.engine.concepts import ConceptStages, Pair
from workers.engine.coordinates import exemplars
from workers.engine.engine import ImageInput
from workers.engine.network import Network

PROMPTS = (16, 1, 2, 5, 3)  # of each image
_WORDS = ("a", "the", "red", "yellow", "black", "circle", "star", "ring", "shape", "dog")


@dataclass(frozen=True)
class _Size:
    """`vit` and `text` are options of their configs."""

    vit: dict[str, Any]
    text: dict[str, Any]
    scale_factors: list[float]
    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    queries: int


_RANDOM = {
    # Position embeddings tiled with a remainder, windows last, one layer of each DETR part.
    "three levels": _Size(
        vit={"hidden_size": 40, "num_attention_heads": 2, "num_hidden_layers": 4}
        | {"image_size": 60, "patch_size": 5, "window_size": 3, "pretrain_image_size": 35}
        | {"global_attn_indexes": [1]},
        text={"hidden_size": 24, "num_attention_heads": 3, "max_position_embeddings": 13},
        scale_factors=[2.0, 1.0, 0.5],
        width=48,
        heads=4,
        encoder_layers=1,
        decoder_layers=1,
        queries=7,
    ),
    # Prompts meet a level finer than the ViT's; no windows; many narrow heads.
    "coarse at twice the grid": _Size(
        vit={"hidden_size": 32, "num_attention_heads": 1, "num_hidden_layers": 2}
        | {"image_size": 36, "patch_size": 6, "window_size": 2, "pretrain_image_size": 36}
        | {"global_attn_indexes": [0, 1]},
        text={},
        scale_factors=[4.0, 2.0, 1.0],
        width=64,
        heads=8,
        encoder_layers=3,
        decoder_layers=4,
        queries=33,
    ),
    # Masks at the size of the patches: nothing to upsample.
    "one level": _Size(
        vit={"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 5}
        | {"image_size": 64, "patch_size": 4, "window_size": 8, "pretrain_image_size": 64}
        | {"global_attn_indexes": [3]},
        text={"num_hidden_layers": 1},
        scale_factors=[1.0, 0.5],
        width=16,
        heads=1,
        encoder_layers=2,
        decoder_layers=2,
        queries=3,
    ),
}
NETWORKS = ("demo", "four levels", *_RANDOM)  # the second is that of random_network


@dataclass(frozen=True)
class Twins:
    stock: Any  # Sam3Model
    stock_tracker: Any  # Sam3TrackerModel
    network: Network

    @property
    def stages(self) -> ConceptStages:
        return self.network._concepts


@dataclass(frozen=True)
class Trace:
    """One prompt in one image on its way through the stock modules, without a batch dimension.

    `tokens` L x C are those of the text, then the exemplars'; `masks` Q x H x W are logits.
    """

    pair: Pair
    features: Tensor
    levels: tuple[Tensor, ...]
    tokens: Tensor
    exemplar_tokens: Tensor
    memory: Tensor
    queries: Tensor
    scores: Tensor
    pixels: Tensor
    masks: Tensor


def twins(name: str, *, dtype: torch.dtype = torch.float32) -> Twins:
    checkpoint = load_checkpoint(DEMO_MODEL, device=torch.device("cpu"))
    if name != "demo":
        checkpoint = _random_checkpoint(name, checkpoint.tokenizer_json)
    # Copied, because the engine takes the weights over, in its own precision.
    stock = deepcopy((checkpoint.detector, checkpoint.tracker))
    return Twins(*stock, Network(checkpoint, torch.device("cpu"), dtype))


def _random_checkpoint(name: str, tokenizer_json: str) -> Checkpoint:
    detector, tracker = random_models()
    if name in _RANDOM:  # the tracker stays of another size, and unused
        detector = Sam3Model(_config(_RANDOM[name])).eval()
    torch.manual_seed(1)
    _enliven(detector)
    side = detector.config.vision_config.backbone_config.image_size
    processor = Sam3ImageProcessor(size={"height": side, "width": side})
    return Checkpoint(
        name, detector.requires_grad_(False), tracker, processor, tokenizer_json, "", None
    )


def _config(size: _Size) -> Any:
    """What `size` does not say is that of sam3_config."""
    base = sam3_config().to_dict()
    part = {"hidden_size": size.width, "num_attention_heads": size.heads}
    return Sam3Config(
        vision_config={
            **VISION,
            "fpn_hidden_size": size.width,
            "scale_factors": size.scale_factors,
            "backbone_config": {**VISION["backbone_config"], **size.vit},
        },
        text_config={**base["text_config"], **size.text},
        geometry_encoder_config={**base["geometry_encoder_config"], **part},
        detr_encoder_config={
            **base["detr_encoder_config"],
            **part,
            "num_layers": size.encoder_layers,
        },
        detr_decoder_config={
            **base["detr_decoder_config"],
            **part,
            "num_layers": size.decoder_layers,
            "num_queries": size.queries,
        },
        mask_decoder_config={**base["mask_decoder_config"], **part},
    )


def _enliven(network: nn.Module) -> None:
    """Weights that let the input through: as made by transformers, every score is the same."""
    for module in network.modules():
        normed = isinstance(module, nn.LayerNorm | nn.GroupNorm)
        for name, tensor in module.named_parameters(recurse=False):
            if tensor.dim() > 1:
                embedded = isinstance(module, nn.Embedding)
                tensor.data.normal_(std=2.0 if embedded else tensor[0].numel() ** -0.5)
            else:
                tensor.data.normal_(std=0.3).add_(float(normed and name == "weight"))


def images(network: Network) -> list[ImageInput]:
    """As many as PROMPTS says, of different sizes, with prompts of every kind."""
    random, found = Random(0), []
    for seed, count in enumerate(PROMPTS):
        scene = draw_scene(seed, size=200 + 60 * seed)
        image = scene.image.crop((0, 0, scene.image.width - 17 * seed, scene.image.height))
        prompts = tuple(_prompt(random, image.size, kind=k % 3) for k in range(count))
        squashed = network.squash(np.array(image))
        found.append(ImageInput(squashed, image.width, image.height, prompts, 0.0))
    return found


def _prompt(random: Random, size: tuple[int, int], *, kind: int) -> ConceptPrompt:
    """A text, boxes, or both."""
    text = " ".join(random.choices(_WORDS, k=random.randint(1, 8))) if kind != 1 else None
    boxes = [_box(random, size) for _ in range(random.randint(1, 4) if kind else 0)]
    return ConceptPrompt(text, tuple(boxes), tuple(random.random() < 0.7 for _ in boxes))


def _box(random: Random, size: tuple[int, int]) -> Box:
    (x0, x1), (y0, y1) = (sorted(random.uniform(0, side) for _ in range(2)) for side in size)
    return Box(x0, y0, x1 + 0.01, y1 + 0.01)


def pairs_of(inputs: list[ImageInput]) -> list[Pair]:
    return [
        Pair(
            place,
            position,
            prompt.text or VISUAL_TEXT,
            exemplars(prompt, width=image.width, height=image.height),
        )
        for place, image in enumerate(inputs)
        for position, prompt in enumerate(image.prompts)
        if isinstance(prompt, ConceptPrompt)
    ]


@torch.inference_mode()
def trace(both: Twins, image: ImageInput, pair: Pair) -> Trace:
    with _watched(both.stock) as seen:
        pixel_values = both.network._preprocessing.normalise(image.pixels[None])
        output = both.stock(pixel_values=pixel_values, **_prompt_inputs(both, pair))
    encoder = seen["detr_encoder"]
    geometry = seen.get("geometry_encoder")
    return Trace(
        pair=pair,
        features=seen["vision_encoder.neck"].inputs[0][0],
        levels=tuple(level[0] for level in seen["vision_encoder.neck"].output[0]),
        tokens=encoder.options["text_features"][0, encoder.options["text_mask"][0]],
        exemplar_tokens=geometry.output.last_hidden_state[0] if geometry else torch.empty(0),
        memory=encoder.output.last_hidden_state[0],
        queries=seen["detr_decoder"].output.intermediate_hidden_states[-1, 0],
        scores=(output.pred_logits.sigmoid() * output.presence_logits.sigmoid())[0],
        pixels=seen["mask_decoder.pixel_decoder"].output[0],
        masks=output.pred_masks[0],
    )


def _prompt_inputs(both: Twins, pair: Pair) -> dict[str, Tensor]:
    """As Sam3Processor makes them: ids padded to the limit; boxes, if there are any."""
    ids = Tokenizer.from_str(both.network.tokenizer_json).encode(pair.text).ids
    padding = both.network.limits.text_tokens - len(ids)
    inputs = {
        "input_ids": torch.tensor([ids + [0] * padding]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * padding]),
    }
    if pair.exemplars:
        inputs["input_boxes"] = torch.tensor([[one.centred for one in pair.exemplars]])
        inputs["input_boxes_labels"] = torch.tensor([[int(o.positive) for o in pair.exemplars]])
    return inputs


@dataclass(frozen=True)
class _Call:
    inputs: tuple[Any, ...]
    options: dict[str, Any]
    output: Any


@contextmanager
def _watched(stock: Any) -> Iterator[dict[str, _Call]]:
    """The call of each module of interest, by its name."""
    seen: dict[str, _Call] = {}

    def record(name: str, _: Any, inputs: Any, options: Any, output: Any) -> None:
        seen[name] = _Call(inputs, options, output)

    watched = (
        "vision_encoder.neck",
        "geometry_encoder",
        "detr_encoder",
        "detr_decoder",
        "mask_decoder.pixel_decoder",
    )
    handles = [
        stock.get_submodule(name).register_forward_hook(partial(record, name), with_kwargs=True)
        for name in watched
    ]
    yield seen
    for handle in handles:
        handle.remove()
