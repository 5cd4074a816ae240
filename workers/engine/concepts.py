"""Stages 3 to 6, once per (image, prompt) pair: from a concept to scored masks.

Pairs of several images, with different prompts, go through together. The modules are those of
transformers' Sam3Model; its forward is cut here where work can be left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.masking_utils import create_bidirectional_mask

from domain.prompts import PROMPTS_PER_PASS
from workers.engine.coordinates import Exemplar
from workers.engine.engine import Found
from workers.engine.text import TextEncoder
from workers.engine.vision import Pyramid


@dataclass(frozen=True, slots=True)
class Pair:
    """One concept in one image. `image` counts in the batch, `prompt` in the image's prompts."""

    image: int
    prompt: int
    text: str
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What the pair stages read: P image numbers, prompt tokens P x L x C, and which of the L
    tokens are no padding, P x L bool, or None where all are."""

    images: Tensor
    tokens: Tensor
    valid: Tensor | None

    def rows(self, rows: Tensor) -> "_Inputs":
        valid = None if self.valid is None else self.valid[rows]
        return _Inputs(self.images[rows], self.tokens[rows], valid)


class ConceptStages:
    def __init__(self, detector: Any, text_encoder: TextEncoder) -> None:
        self._detector = detector
        self._text_encoder = text_encoder
        # One at a time on the CPU, where the pixel decoder's maps then stay in the cache:
        # 6 instead of 8 to 17 ms a pair on the demo network.
        on_cpu = detector.device.type == "cpu"
        self._pairs_per_mask_pass = 1 if on_cpu else PROMPTS_PER_PASS

    def find(self, pyramid: Pyramid, pairs: Sequence[Pair], *, floor: float) -> Iterator[Found]:
        """Whatever scores `floor` or more, by pair and then by query."""
        for start in range(0, len(pairs), PROMPTS_PER_PASS):
            yield from self._find(pyramid, pairs[start : start + PROMPTS_PER_PASS], floor)

    def _find(self, pyramid: Pyramid, pairs: Sequence[Pair], floor: float) -> Iterator[Found]:
        inputs = self._inputs(pyramid, pairs)
        encoded = self._encode(pyramid, inputs)
        queries, scores = self._decode(encoded, inputs)
        kept = scores >= floor  # the presence gate: most pairs end here, before any mask
        survivors = kept.any(dim=1).nonzero()[:, 0]
        if len(survivors) == 0:  # split would give one empty pass
            return
        for rows in survivors.split(self._pairs_per_mask_pass):  # type: ignore[no-untyped-call]
            at = rows.to(queries.device)
            pixels = self._pixels(pyramid, encoded.last_hidden_state[at], inputs.rows(at))
            for row, embedding in zip(rows.tolist(), pixels, strict=True):
                chosen = kept[row].nonzero()[:, 0]
                masks = self._masks(queries[row, chosen.to(queries.device)], embedding)
                for score, mask in zip(scores[row, chosen].tolist(), masks, strict=True):
                    yield Found(pairs[row].image, pairs[row].prompt, score, mask)

    def _inputs(self, pyramid: Pyramid, pairs: Sequence[Pair]) -> _Inputs:
        """Text tokens, then one token per exemplar and a class token, then padding."""
        tokens = self._text_encoder.encode([pair.text for pair in pairs])
        for row, exemplar_tokens in self._exemplar_tokens(pyramid, pairs):
            tokens[row] = torch.cat([tokens[row], exemplar_tokens])
        lengths = [len(row) for row in tokens]
        padded = pad_sequence(tokens, batch_first=True)
        images = torch.tensor([pair.image for pair in pairs], device=padded.device)
        if min(lengths) == max(lengths):
            return _Inputs(images, padded, None)
        steps = torch.arange(padded.shape[1], device=padded.device)
        valid = steps < torch.tensor(lengths, device=padded.device)[:, None]
        return _Inputs(images, padded, valid)

    def _exemplar_tokens(
        self, pyramid: Pyramid, pairs: Sequence[Pair]
    ) -> Iterator[tuple[int, Tensor]]:
        """The geometry encoder, for the pairs that have boxes: (row, (boxes + 1) x C)."""
        rows = [row for row, pair in enumerate(pairs) if pair.exemplars]
        if not rows:
            return
        coarse = pyramid.levels[-1]
        device = coarse.device
        exemplars = [pairs[row].exemplars for row in rows]
        boxes = [torch.tensor([e.centred for e in row], device=device) for row in exemplars]
        labels = [torch.tensor([int(e.positive) for e in row], device=device) for row in exemplars]
        lengths = torch.tensor([len(row) for row in exemplars], device=device)
        padded = pad_sequence(boxes, batch_first=True).to(coarse.dtype)
        images = torch.tensor([pairs[row].image for row in rows], device=device)
        encoded = self._detector.geometry_encoder(
            box_embeddings=padded,
            box_mask=torch.arange(padded.shape[1], device=device) < lengths[:, None],
            box_labels=pad_sequence(labels, batch_first=True),
            img_feats=(coarse[images],),
            img_pos_embeds=(pyramid.position,),
        ).last_hidden_state
        for row, boxes_here, tokens in zip(rows, exemplars, encoded, strict=True):
            yield row, tokens[: len(boxes_here) + 1]

    def _encode(self, pyramid: Pyramid, inputs: _Inputs) -> Any:
        """The DETR encoder: image tokens P x hw x C that have looked at the prompt."""
        return self._detector.detr_encoder(
            vision_features=[pyramid.levels[-1][inputs.images]],
            vision_pos_embeds=[pyramid.position],
            text_features=inputs.tokens,
            text_mask=inputs.valid,
        )

    def _decode(self, encoded: Any, inputs: _Inputs) -> tuple[Tensor, Tensor]:
        """The DETR decoder: queries P x Q x C, and their scores P x Q in host memory.

        score = sigmoid(presence) x sigmoid(query's match with the prompt), as in
        Sam3ImageProcessor.post_process_instance_segmentation.
        """
        decoded = self._detector.detr_decoder(
            vision_features=encoded.last_hidden_state,
            vision_pos_encoding=encoded.pos_embeds_flattened,
            spatial_shapes=encoded.spatial_shapes,
            text_features=inputs.tokens,
            text_mask=inputs.valid,
        )
        last = decoded.intermediate_hidden_states[-1]
        matches = self._detector.dot_product_scoring(
            decoder_hidden_states=last[None], text_features=inputs.tokens, text_mask=inputs.valid
        )[0, :, :, 0]
        return last, (matches.sigmoid() * decoded.presence_logits[-1].sigmoid()).float().cpu()

    def _pixels(self, pyramid: Pyramid, encoded: Tensor, inputs: _Inputs) -> Tensor:
        """The mask decoder's pixel half: embeddings P x C x H x W. No semantic head."""
        decoder = self._detector.mask_decoder
        normed = decoder.prompt_cross_attn_norm(encoded)
        attention_mask = create_bidirectional_mask(
            config=decoder.config,
            inputs_embeds=normed,
            encoder_hidden_states=inputs.tokens,
            attention_mask=inputs.valid,
        )
        looked, _ = decoder.prompt_cross_attn(
            query=normed, key=inputs.tokens, value=inputs.tokens, attention_mask=attention_mask
        )
        embeddings: Tensor = decoder._embed_pixels(
            backbone_features=[level[inputs.images] for level in pyramid.levels],
            encoder_hidden_states=encoded + looked,
        )
        return embeddings

    def _masks(self, queries: Tensor, embedding: Tensor) -> Tensor:
        """The mask decoder's query half, for the survivors: K x C and C x H x W to K x H x W.

        The 1x1 projection (W, b) of the pixels p is folded into the few queries q:
        q . (W p + b) = (W^T q) . p + q . b. Probabilities less one half: resized like that, and
        cut at 0, they give the masks of Sam3ImageProcessor.post_process_instance_segmentation.
        """
        decoder = self._detector.mask_decoder
        weight, bias = (
            decoder.instance_projection.weight[:, :, 0, 0],
            decoder.instance_projection.bias,
        )
        embedded = decoder.mask_embedder(queries)
        logits = torch.einsum("kc,chw->khw", embedded @ weight, embedding)
        logits += (embedded @ bias)[:, None, None]
        return logits.float().sigmoid().sub_(0.5)
