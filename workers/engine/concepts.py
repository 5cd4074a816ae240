"""Stages 1 to 5 in their order: from a batch of images and their prompts to scored masks.

Pairs of several images, with different prompts, go through together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from workers.engine.attention import attention_of_images, attention_of_pairs
from workers.engine.coordinates import Exemplar
from workers.engine.detr_decoder import DetrDecoder
from workers.engine.detr_encoder import DetrEncoder
from workers.engine.exemplars import ExemplarEncoder
from workers.engine.mask_decoder import MaskDecoder
from workers.engine.moving import moved
from workers.engine.passes import PassSizes
from workers.engine.text import TextEncoder
from workers.engine.vision import Neck, Vit


@dataclass(frozen=True, slots=True)
class Pair:
    """One concept in one image. `image` counts in the batch, `prompt` in the image's prompts. What
    scores `floor` or more is kept."""

    image: int
    prompt: int
    text: str
    exemplars: tuple[Exemplar, ...] = ()
    floor: float = 0.0


@dataclass(frozen=True, slots=True)
class Scored:
    """What a prompt found in an image: K scores, and K x h x w masks on the device, float32, above
    0 inside."""

    image: int
    prompt: int
    scores: list[float]
    masks: Tensor


@dataclass(frozen=True, slots=True)
class _Prompts:
    """What the stages read of P pairs: image numbers, tokens P x L x C, and P x L padding, 0 for
    a token and -inf for none."""

    images: Tensor
    tokens: Tensor
    padding: Tensor


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A pass of P pairs behind the DETR decoder: `memory` P x hw x C, `queries` P x Q x C, and the
    queries' scores, P x Q float32 in host memory."""

    pairs: Sequence[Pair]
    prompts: _Prompts
    memory: Tensor
    queries: Tensor
    scores: Tensor


class ConceptStages:
    """The weights of a Sam3Model, arranged for many prompts per image, in `dtype`; texts and
    exemplars are encoded in float32."""

    def __init__(
        self, detector: Any, tokenizer_json: str, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.steps = 0  # passes so far
        self.vit = Vit(detector.vision_encoder.backbone)
        neck = detector.vision_encoder.neck
        self.neck = Neck(neck)
        side = self.vit.side * self.neck.coarse_scale
        plane = torch.Size((1, neck.config.fpn_hidden_size, side, side))
        position = neck.position_encoding(plane, "cpu", torch.float32)
        flat = position.flatten(2).transpose(1, 2)
        self.exemplar_encoder = ExemplarEncoder(detector.geometry_encoder, position=position)
        self.encoder = DetrEncoder(detector.detr_encoder, position=flat)
        self.decoder = DetrDecoder(
            detector.detr_decoder, detector.dot_product_scoring, position=flat, side=side
        )
        self.mask_decoder = MaskDecoder(
            detector.mask_decoder, side=side, upsamplings=len(self.neck.levels) - 1
        )
        for stage in (self.vit, self.neck, self.encoder, self.decoder, self.mask_decoder):
            put(stage, device, dtype)
        self.exemplar_encoder.to(device)
        self.text_encoder = TextEncoder(
            detector.text_encoder.to(device), detector.text_projection.to(device), tokenizer_json
        )

    def see(self, pixel_values: Tensor) -> Tensor:
        """The ViT's features of B x 3 x S x S normalised pixels."""
        with attention_of_images():
            features: Tensor = self.vit(pixel_values)
        self.steps += 1
        return features

    def find(
        self, features: Tensor, pairs: Sequence[Pair], *, sizes: PassSizes
    ) -> Iterator[list[Scored]]:
        """What each finds, in the order of `pairs`. `features` are the ViT's.

        Comes in lists, so that the caller can take the masks of one off the device before the
        next are made.
        """
        with attention_of_pairs():
            coarse = self.neck.coarse(features)
            begun = self.encoder.begin(coarse)
        for start in range(0, len(pairs), sizes.pairs):
            with attention_of_pairs():
                decoded = self._decode(coarse, begun, pairs[start : start + sizes.pairs])
            self.steps += 1
            yield from self._masks(features, decoded, pairs_at_once=sizes.mask_pairs)

    def _decode(self, coarse: Tensor, begun: Tensor, pairs: Sequence[Pair]) -> _Decoded:
        prompts = self._prompts(coarse, pairs)
        memory = self.encoder(begun[prompts.images], prompts.tokens, prompts.padding)
        queries, scores = self.decoder(memory, prompts.tokens, prompts.padding)
        return _Decoded(pairs, prompts, memory, queries, scores.cpu())

    def _prompts(self, coarse: Tensor, pairs: Sequence[Pair]) -> _Prompts:
        """Text tokens, then one token per exemplar and a class token, then padding."""
        tokens = self.text_encoder.encode([pair.text for pair in pairs])
        rows = [row for row, pair in enumerate(pairs) if pair.exemplars]
        if rows:
            seen = coarse[moved([pairs[row].image for row in rows], coarse.device)]
            encoded = self.exemplar_encoder(seen, [pairs[row].exemplars for row in rows])
            for row, exemplar_tokens in zip(rows, encoded, strict=True):
                tokens[row] = torch.cat([tokens[row], exemplar_tokens])
        return _padded([pair.image for pair in pairs], tokens, like=coarse)

    def _masks(
        self, features: Tensor, decoded: _Decoded, *, pairs_at_once: int
    ) -> Iterator[list[Scored]]:
        floors = torch.tensor([pair.floor for pair in decoded.pairs])
        kept = decoded.scores >= floors[:, None]  # the gate: most end here, before any mask
        survivors = kept.any(dim=1).nonzero()[:, 0].tolist()
        images = sorted({decoded.pairs[row].image for row in survivors})
        if not images:
            return
        skips = self.mask_decoder.skips(self.neck.finer(features[moved(images, features.device)]))
        for start in range(0, len(survivors), pairs_at_once):
            rows = survivors[start : start + pairs_at_once]
            places = [images.index(decoded.pairs[row].image) for row in rows]
            pixels = self._pixels(decoded, rows, skips, places)
            self.steps += 1
            yield self._scored(decoded, rows, kept[rows], pixels)

    def _pixels(
        self, decoded: _Decoded, rows: list[int], skips: Sequence[Tensor], places: list[int]
    ) -> Tensor:
        prompts, device = decoded.prompts, decoded.memory.device
        at, images = moved([rows, places], device)
        pixels: Tensor = self.mask_decoder(
            decoded.memory[at], prompts.tokens[at], prompts.padding[at], skips, images
        )
        return pixels

    def _scored(
        self, decoded: _Decoded, rows: list[int], kept: Tensor, pixels: Tensor
    ) -> list[Scored]:
        """Of the pairs at `rows`; `kept` R x Q, `pixels` R x C x H x W."""
        of_row, chosen = kept.nonzero(as_tuple=True)
        at, queries = moved(
            [[rows[row] for row in of_row.tolist()], chosen.tolist()], pixels.device
        )
        counts = kept.sum(dim=1).tolist()
        masks = self.mask_decoder.masks(decoded.queries[at, queries], pixels, counts)
        scored = []
        for row, row_kept, row_masks in zip(rows, kept, masks, strict=True):
            pair, scores = decoded.pairs[row], decoded.scores[row][row_kept].tolist()
            scored.append(Scored(pair.image, pair.prompt, scores, row_masks))
        return scored


def put(stage: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Weights in `dtype`; buffers, which hold coordinates, stay float32. Tokens are channels last
    as they come, so convolutions had better be: 7 instead of 16 ms for one of the pixel decoder's
    on two cores."""
    stage.to(device).requires_grad_(False)
    for parameter in stage.parameters():
        is_kernel = parameter.dim() == 4 and len(parameter) > 1
        form = torch.channels_last if is_kernel else torch.preserve_format
        parameter.data = parameter.data.to(dtype, memory_format=form)


def _padded(images: Sequence[int], tokens: Sequence[Tensor], *, like: Tensor) -> _Prompts:
    """In the device and precision of `like`. On an accelerator lengths are a multiple of 8, which
    suits its kernels and makes fewer shapes to compile for."""
    lengths = torch.tensor([len(row) for row in tokens])
    multiple = 1 if like.device.type == "cpu" else 8
    room = -(-int(lengths.max()) // multiple) * multiple
    padded = pad_sequence(list(tokens), batch_first=True)
    padded = functional.pad(padded, (0, 0, 0, room - padded.shape[1]))
    padding = torch.zeros(len(tokens), room).masked_fill(
        torch.arange(room) >= lengths[:, None], -torch.inf
    )
    padding = moved(padding, like.device).to(like.dtype)
    return _Prompts(moved(images, like.device), padded.to(like), padding)
