"""A random network of the published size, one image through the whole pipeline on the CPU: two
texts of which every query is kept, and a click. A process of its own; prints one line of JSON."""

import json
import resource
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import Sam3ImageProcessor, Sam3Model, Sam3TrackerModel
from transformers.initialization import no_init_weights

from domain.geometry import Point
from domain.prompts import ConceptPrompt, MaskPrompt
from maskmill.sample_scenes import draw_scene
from workers.engine.checkpoint import DEMO_MODEL, Checkpoint, load_checkpoint, published_config
from workers.engine.engine import Found, ImageInput
from workers.engine.network import Network
from workers.engine.pipeline import ImageTask, Pipeline

SIDE = 1008


def random_network(kind: Any, numbers: torch.Tensor) -> Any:
    """Norms as they start, all else small `numbers`, the same over and over: as many fresh ones
    as there are weights would take minutes."""
    with no_init_weights():
        network = kind(published_config(kind)).eval().requires_grad_(False)
    for module in network.modules():
        normed = isinstance(module, nn.LayerNorm | nn.GroupNorm)
        for name, tensor in module.named_parameters(recurse=False):
            if normed:
                tensor.fill_(float(name == "weight"))
            else:
                for piece in tensor.view(-1).split(len(numbers)):
                    piece.copy_(numbers[: len(piece)])
    return network


def full_size_network() -> Network:
    torch.manual_seed(0)
    numbers = 0.02 * torch.randn((1 << 20) - 3)
    detector = random_network(Sam3Model, numbers)
    tracker = random_network(Sam3TrackerModel, numbers)
    tracker.vision_encoder.backbone = detector.vision_encoder.backbone
    tokenizer_json = load_checkpoint(DEMO_MODEL, device=torch.device("cpu")).tokenizer_json
    processor = Sam3ImageProcessor(size={"height": SIDE, "width": SIDE})
    checkpoint = Checkpoint("random", detector, tracker, processor, tokenizer_json, "", None)
    return Network(checkpoint, torch.device("cpu"), torch.float32)


def checked(segment: Any, seen: list[Found], images: Sequence[ImageInput]) -> list[list[Found]]:
    answers: list[list[Found]] = segment(images)
    seen.extend(answers[0])
    return answers


def main() -> None:
    started = time.perf_counter()
    network = full_size_network()
    built = time.perf_counter()
    seen: list[Found] = []
    network.segment = partial(checked, network.segment, seen)  # type: ignore[method-assign]
    texts = (ConceptPrompt("red circle"), ConceptPrompt("star"))
    prompts = (*texts, MaskPrompt(None, (Point(300, 200),)))
    task = ImageTask(draw_scene(0).encoded, prompts)
    (outcome,) = Pipeline(network, floor=0.0, max_pixels=10**6).run([task])
    answer = {
        "build_seconds": built - started,
        "run_seconds": time.perf_counter() - built,
        "error": outcome.error_code,
        "saturated_prompts": outcome.saturated_prompts,
        "masks": len(seen),
        "finite": all(bool(torch.isfinite(one.mask).all()) for one in seen),
        "scores": [one.score for one in seen],
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(answer))  # noqa: T201


if __name__ == "__main__":
    main()
