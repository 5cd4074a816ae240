"""SAM 3 as a row of stages: what is done once per image, once per text, once per pair."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from domain.prompts import ConceptPrompt, MaskPrompt, ModelLimits
from workers.engine.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from workers.engine.clicks import ClickStage
from workers.engine.concepts import ConceptStages, Pair
from workers.engine.coordinates import Click, clicks, exemplars
from workers.engine.engine import Found, ImageInput
from workers.engine.preprocessing import Preprocessing
from workers.engine.text import TextEncoder
from workers.engine.vision import Features, see

VISUAL_TEXT = "visual"  # what Sam3Processor says for exemplar boxes without a text


class Network:
    """The engine of our own; see Engine."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
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
        self._detector, self._tracker = checkpoint.detector, checkpoint.tracker
        self._concepts = ConceptStages(
            self._detector, TextEncoder(self._detector, checkpoint.tokenizer_json)
        )
        self._clicks = ClickStage(self._tracker)

    @property
    def images_per_batch(self) -> int:
        """For the ViT. On the CPU 1 to 8 take the same time with the demo network (within 3 %)."""
        return 8 if self.device.type == "cuda" else 4

    def squash(self, pixels: np.ndarray) -> Tensor:
        return self._preprocessing.squash(pixels)

    @torch.inference_mode()
    def segment(self, images: Sequence[ImageInput], *, floor: float) -> list[list[Found]]:
        squashed = torch.stack([image.squashed for image in images]).to(self.device)
        pixel_values = self._preprocessing.normalise(squashed)
        features = see(pixel_values, detector=self._detector, tracker=self._tracker)
        results: list[list[Found]] = [[] for _ in images]
        for found in self._find(features, images, floor):
            results[found.image].append(found)
        return results

    def _find(
        self, features: Features, images: Sequence[ImageInput], floor: float
    ) -> Iterator[Found]:
        pairs = [pair for place, image in enumerate(images) for pair in _pairs(place, image)]
        if pairs:
            yield from self._concepts.find(features.pyramid, pairs, floor=floor)
        for place, image in enumerate(images):
            pointed = _clicks(image, self.limits.image_size)
            if pointed:
                yield from self._segment_clicks(features, place, pointed)

    def _segment_clicks(
        self, features: Features, image: int, pointed: dict[int, tuple[Click, ...]]
    ) -> Iterator[Found]:
        positions = list(pointed)
        found = self._clicks.segment(features.tracker_levels, image, list(pointed.values()))
        for place, score, mask in found:
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


def load(model: str, *, device: str, threads: int | None) -> Network:
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = _device(device)
    return Network(load_checkpoint(model, device=chosen), chosen)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if not available.get(name, False):
        raise CheckpointError(f"device {name}: not available on this machine")
    return torch.device(name)
