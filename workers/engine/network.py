"""The engine of our own: SAM 3 as a row of stages, each doing once what need not be done again."""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from domain.prompts import ConceptPrompt, MaskPrompt, ModelLimits
from workers.engine.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from workers.engine.clicks import ClickStage
from workers.engine.concepts import ConceptStages, Pair
from workers.engine.coordinates import Click, clicks, exemplars
from workers.engine.engine import Found, ImageInput
from workers.engine.passes import CPU_SIZES, PassSizes
from workers.engine.preprocessing import Preprocessing
from workers.engine.vision import tracker_levels
from workers.engine.warm_up import best_attention, compile_stages, warm_up

VISUAL_TEXT = "visual"  # what Sam3Processor says for exemplar boxes without a text


class Network:
    """The engine of our own; see Engine."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        config = checkpoint.detector.config
        self.name = checkpoint.name
        self.device = device
        self.weights_sha256 = checkpoint.weights_sha256
        self.notice = checkpoint.notice
        self.tokenizer_json = checkpoint.tokenizer_json
        self._preprocessing = Preprocessing(checkpoint.image_processor)
        self.limits = ModelLimits(
            text_tokens=config.text_config.max_position_embeddings,
            queries=config.detr_decoder_config.num_queries,
            image_size=self._preprocessing.side,
        )
        self._concepts = ConceptStages(
            checkpoint.detector, checkpoint.tokenizer_json, device=device, dtype=dtype
        )
        self._tracker = checkpoint.tracker.to(device)
        self._clicks = ClickStage(self._tracker)
        self._sizes, self.details = self._prepare(str(dtype).removeprefix("torch."))

    def _prepare(self, precision: str) -> tuple[PassSizes, str]:
        if self.device.type != "cuda":
            return CPU_SIZES, precision
        started = time.perf_counter()
        compile_stages(self._concepts)
        sizes = warm_up(self._concepts, image_size=self.limits.image_size)
        seconds = time.perf_counter() - started
        return sizes, f"{precision}, compiled and measured in {seconds:.0f} s: {sizes}"

    @property
    def images_per_batch(self) -> int:
        return self._sizes.images

    def squash(self, pixels: np.ndarray) -> Tensor:
        return self._preprocessing.squash(pixels)

    @torch.inference_mode()
    def segment(self, images: Sequence[ImageInput], *, floor: float) -> list[list[Found]]:
        squashed = torch.stack([image.squashed for image in images]).to(self.device)
        results: list[list[Found]] = [[] for _ in images]
        with best_attention() if self.device.type == "cuda" else nullcontext():
            features = self._concepts.vit(self._preprocessing.normalise(squashed))
            for found in self._find(features, images, floor):
                results[found.image].append(found)
        return results

    def _find(
        self, features: Tensor, images: Sequence[ImageInput], floor: float
    ) -> Iterator[Found]:
        pairs = [pair for place, image in enumerate(images) for pair in _pairs(place, image)]
        if pairs:
            for concepts in self._concepts.find(features, pairs, floor=floor, sizes=self._sizes):
                for concept in concepts:
                    pair = concept.pair
                    for score, mask in zip(concept.scores, concept.masks, strict=True):
                        yield Found(pair.image, pair.prompt, score, mask)
        for place, image in enumerate(images):
            pointed = _clicks(image, self.limits.image_size)
            if pointed:
                yield from self._segment_clicks(features, place, pointed)

    def _segment_clicks(
        self, features: Tensor, image: int, pointed: dict[int, tuple[Click, ...]]
    ) -> Iterator[Found]:
        positions = list(pointed)
        levels = tracker_levels(features[image : image + 1].float(), tracker=self._tracker)
        for place, score, mask in self._clicks.segment(levels, 0, list(pointed.values())):
            yield Found(image, positions[place], score, mask)


def _pairs(place: int, image: ImageInput) -> Iterator[Pair]:
    for position, prompt in enumerate(image.prompts):
        if not isinstance(prompt, ConceptPrompt):
            continue
        boxes = exemplars(prompt, width=image.width, height=image.height)
        if boxes or prompt.text is not None:
            yield Pair(place, position, prompt.text or VISUAL_TEXT, boxes)


def _clicks(image: ImageInput, side: int) -> dict[int, tuple[Click, ...]]:
    """The points of each mask prompt that has any, by its position."""
    pointed = {
        position: clicks(prompt, width=image.width, height=image.height, side=side)
        for position, prompt in enumerate(image.prompts)
        if isinstance(prompt, MaskPrompt)
    }
    return {position: points for position, points in pointed.items() if points}


def load(
    model: str, *, device: str, precision: str = "auto", threads: int | None = None
) -> Network:
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = _device(device)
    return Network(
        load_checkpoint(model, device=torch.device("cpu")), chosen, _dtype(precision, chosen)
    )


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    """auto is bfloat16 where a CUDA device computes in it, else float32."""
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if not available.get(name, False):
        raise CheckpointError(f"device {name}: not available on this machine")
    return torch.device(name)
