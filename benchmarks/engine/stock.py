"""Modules of the stock Sam3Model behind the interfaces of our stages, to exchange one by one."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

from workers.engine.concepts import ConceptStages


def with_stages(stages: ConceptStages, **exchanged: Any) -> ConceptStages:
    """As `stages`, but for those named."""
    other = copy.copy(stages)
    for name, stage in exchanged.items():
        setattr(other, name, stage)
    return other


def vision_of_pairs(vision: Any, image: int, prompts: int) -> Sam3VisionEncoderOutput:
    """What Sam3Model takes for `prompts` prompts in one image of a batch."""

    def pairs(levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(
            level[image % len(level)].expand(prompts, *level.shape[1:]) for level in levels
        )

    build: Any = Sam3VisionEncoderOutput
    output: Sam3VisionEncoderOutput = build(
        fpn_hidden_states=pairs(vision.fpn_hidden_states),
        fpn_position_encoding=pairs(vision.fpn_position_encoding),
    )
    return output


class StockVit(nn.Module):
    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.backbone = stock.vision_encoder.backbone
        config = self.backbone.config
        self.side = config.image_size // config.patch_size

    def forward(self, pixel_values: Tensor) -> Tensor:
        tokens = self.backbone(pixel_values).last_hidden_state
        features: Tensor = tokens.transpose(1, 2).unflatten(2, (self.side, self.side))
        return features


class StockNeck(nn.Module):
    """Without the level that Sam3Model computes and throws away."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.levels = list(stock.vision_encoder.neck.fpn_layers)[:-1]

    def coarse(self, features: Tensor) -> Tensor:
        level: Tensor = self.levels[-1](features)
        return level

    def finer(self, features: Tensor) -> tuple[Tensor, ...]:
        return tuple(level(features) for level in self.levels[:-1])


class StockEncoder(nn.Module):
    def __init__(self, stock: Any, *, side: int) -> None:
        super().__init__()
        self.encoder, self.side = stock.detr_encoder, side
        self.position_encoding = stock.vision_encoder.neck.position_encoding

    def begin(self, coarse: Tensor) -> Tensor:
        return coarse.flatten(2).transpose(1, 2)

    def forward(self, tokens: Tensor, prompt: Tensor, padding: Tensor) -> Tensor:
        plane = tokens.transpose(1, 2).unflatten(2, (self.side, self.side))
        encoded: Tensor = self.encoder(
            vision_features=[plane],
            text_features=prompt,
            vision_pos_embeds=[self.position_encoding(plane.shape, plane.device, plane.dtype)],
            text_mask=padding == 0,
        ).last_hidden_state
        return encoded


class StockDecoder(nn.Module):
    def __init__(self, stock: Any, *, side: int) -> None:
        super().__init__()
        self.decoder, self.scoring, self.side = stock.detr_decoder, stock.dot_product_scoring, side
        self.position_encoding = stock.vision_encoder.neck.position_encoding

    def forward(self, memory: Tensor, prompt: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        plane = torch.Size((len(memory), memory.shape[2], self.side, self.side))
        position = self.position_encoding(plane, memory.device, memory.dtype)
        decoded = self.decoder(
            vision_features=memory,
            text_features=prompt,
            vision_pos_encoding=position.flatten(2).transpose(1, 2),
            text_mask=padding == 0,
            spatial_shapes=torch.tensor([[self.side, self.side]], device=memory.device),
        )
        hidden = decoded.intermediate_hidden_states
        logits = self.scoring(hidden, prompt, padding == 0).squeeze(-1)[-1]
        scores = logits.float().sigmoid() * decoded.presence_logits[-1].float().sigmoid()
        return hidden[-1], scores


class StockMaskDecoder(nn.Module):
    """Sam3MaskDecoder's parts in its order, without the semantic head."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.decoder = stock.mask_decoder

    def skips(self, finer: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(finer)

    def forward(
        self,
        memory: Tensor,
        prompt: Tensor,
        padding: Tensor,
        skips: Sequence[Tensor],
        images: Tensor,
    ) -> Tensor:
        decoder: Any = self.decoder
        looked, _ = decoder.prompt_cross_attn(
            query=decoder.prompt_cross_attn_norm(memory),
            key=prompt,
            value=prompt,
            attention_mask=padding[:, None, None],
        )
        plane = _as_plane(memory + looked, like=skips[-1])
        pixels = decoder.pixel_decoder([*(level[images] for level in skips), plane])
        embeddings: Tensor = decoder.instance_projection(pixels)
        return embeddings

    def masks(self, queries: Tensor, pixels: Tensor, counts: Sequence[int]) -> list[Tensor]:
        decoder: Any = self.decoder
        embedded = decoder.mask_embedder(queries).split(counts)
        pairs = zip(embedded, pixels, strict=True)
        logits = [torch.einsum("qc,chw->qhw", own, of_pair).float() for own, of_pair in pairs]
        return [of_pair.sigmoid() - 0.5 for of_pair in logits]


def _as_plane(tokens: Tensor, *, like: Tensor) -> Tensor:
    """Tokens to P x C x h x w, half as high and wide as the level `like`."""
    size = (like.shape[-2] // 2, like.shape[-1] // 2)
    plane: Tensor = tokens.transpose(1, 2).unflatten(2, size)
    return plane
