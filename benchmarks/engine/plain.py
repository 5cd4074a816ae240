"""The stock Sam3Model, as its documentation shows it and as a careful user would run it."""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.engine.answers import FLOOR, Answer, answers_of, batches, opened
from benchmarks.engine.stock import vision_of_pairs
from benchmarks.engine.subject import Subject


@dataclass(frozen=True)
class Stock:
    """Each method is a way; `model` is a Sam3Model."""

    subject: Subject
    model: Any

    def a_forward_per_prompt(self, jpegs: Iterable[bytes]) -> Iterator[list[Answer]]:
        for image in map(opened, jpegs):
            pixels = self._pixels([image])
            answers: list[Answer] = []
            for number, text in enumerate(self.subject.prompts):
                outputs = self.model(pixel_values=pixels, **self.subject.tokens([text]))
                answers += self._answers(outputs, image, first=number)
            yield answers

    def vit_once(self, jpegs: Iterable[bytes]) -> Iterator[list[Answer]]:
        prompts = self.subject.prompts
        for image in map(opened, jpegs):
            vision = self.model.get_vision_features(pixel_values=self._pixels([image]))
            pairs = vision_of_pairs(vision, 0, len(prompts))
            outputs = self.model(vision_embeds=pairs, **self.subject.tokens(prompts))
            yield self._answers(outputs, image)

    def texts_once(self, jpegs: Iterable[bytes]) -> Iterator[list[Answer]]:
        return self.vit_batches(1, jpegs)

    def vit_batches(self, size: int, jpegs: Iterable[bytes]) -> Iterator[list[Answer]]:
        texts = self._encoded_texts()
        for batch in batches(jpegs, size):
            images = [opened(jpeg) for jpeg in batch]
            vision = self.model.get_vision_features(pixel_values=self._pixels(images))
            for place, image in enumerate(images):
                pairs = vision_of_pairs(vision, place, len(self.subject.prompts))
                yield self._answers(self.model(vision_embeds=pairs, **texts), image)

    def _pixels(self, images: list[Image.Image]) -> Tensor:
        values = self.subject.image_processor(images=images, return_tensors="pt").pixel_values
        pixels: Tensor = values.to(self.subject.device)
        return pixels

    def _encoded_texts(self) -> dict[str, Any]:
        """From the cache, after the first time."""
        rows = self.subject.eager.text_encoder.encode(self.subject.prompts)
        features = pad_sequence(rows, batch_first=True).to(self.subject.dtype)
        mask = pad_sequence([torch.ones(len(row)) for row in rows], batch_first=True)
        embedded = SimpleNamespace(pooler_output=features)
        return {"text_embeds": embedded, "attention_mask": mask.to(self.subject.device)}

    def _answers(self, outputs: Any, image: Image.Image, first: int = 0) -> list[Answer]:
        outputs = self.subject.findings.in_stock(outputs)
        results = self.subject.image_processor.post_process_instance_segmentation(
            outputs,
            threshold=FLOOR,
            target_sizes=[(image.height, image.width)] * len(outputs.pred_logits),
        )
        return [
            answer
            for number, result in enumerate(results, first)
            for answer in answers_of(number, result["scores"], result["masks"].bool())
        ]

    def compiled(self) -> "Stock":
        """A copy, each of its modules compiled."""
        model = copy.deepcopy(self.model)
        for part in ("vision_encoder", "detr_encoder", "detr_decoder", "mask_decoder"):
            getattr(model, part).compile()
        return Stock(self.subject, model)
