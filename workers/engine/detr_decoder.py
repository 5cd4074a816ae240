"""Stage 4, once per (image, prompt) pair: queries find instances, and every one gets a score."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.engine.attention import Mlp, SelfAttention, attend


class _Anchors(NamedTuple):
    """Where the queries look. `boxes` P x Q x 4 float32 (centre x, centre y, width, height) in
    fractions of the image; `position` P x (1 + Q) x C; `bias` P x heads x (1 + Q) x hw. The 1 is
    the presence token, which has no place of its own."""

    boxes: Tensor
    position: Tensor
    bias: Tensor


class _Seen(NamedTuple):
    """What the queries look at: `prompt` P x L x C with its `padding`, P x 1 x 1 x L, and the
    encoder's `memory` P x hw x C, with its position in `keys`."""

    prompt: Tensor
    padding: Tensor
    memory: Tensor
    keys: Tensor


class DetrDecoder(nn.Module):
    """Sam3DetrDecoder and Sam3DotProductScoring, as far as the last layer's answer needs them.

    Queries and their first anchors are weights: up to the first look at the prompt all pairs of
    all images have the same state. It is computed here once, bias included.
    """

    def __init__(self, stock: Any, scoring: Any, *, position: Tensor, side: int) -> None:
        super().__init__()
        self.side = side
        self.memory_position = nn.Parameter(position)
        self.layers = nn.ModuleList(_DecoderLayer(layer) for layer in stock.layers)
        self.norm, self.presence_norm = stock.output_layer_norm, stock.presence_layer_norm
        self.box_head, self.presence_head = stock.box_head, stock.presence_head
        self.presence_limit: float = stock.clamp_presence_logit_max_val
        self.sine, self.anchor_head = stock.position_encoding, stock.ref_point_head
        self.bias_across, self.bias_down = stock.box_rpb_embed_x, stock.box_rpb_embed_y
        self.scoring = scoring
        self._compute_start(stock)

    @torch.no_grad()
    def _compute_start(self, stock: Any) -> None:
        boxes = stock.reference_points.weight[None].sigmoid()
        anchors = self._anchors(boxes)
        start = torch.cat([stock.presence_token.weight, stock.query_embed.weight])[None]
        self.first_boxes = nn.Buffer(boxes)
        self.first_position = nn.Parameter(anchors.position)
        self.first_bias = nn.Parameter(anchors.bias)
        first: Any = self.layers[0]
        self.start = nn.Parameter(first.exchange(start, anchors.position))

    def forward(self, memory: Tensor, prompt: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """`memory` P x hw x C from the encoder, `prompt` P x L x C, `padding` P x L: 0 or -inf.

        Returns the queries, P x Q x C, and their scores, P x Q float32.
        """
        pairs = len(memory)
        seen = _Seen(prompt, padding[:, None, None], memory, memory + self.memory_position)
        queries = self.start.expand(pairs, -1, -1)
        anchors = _Anchors(
            self.first_boxes.expand(pairs, -1, -1),
            self.first_position,
            self.first_bias.expand(pairs, -1, -1, -1),
        )
        layer: Any
        for number, layer in enumerate(self.layers):
            if number:
                anchors = self._refined(anchors.boxes, queries[:, 1:])
                queries = layer.exchange(queries, anchors.position)
            queries = layer.look(queries, anchors, seen)
        found = self.norm(queries[:, 1:])
        return found, self._scores(found, queries[:, :1], prompt, padding)

    def _scores(self, found: Tensor, presence: Tensor, prompt: Tensor, padding: Tensor) -> Tensor:
        """sigmoid(presence) x sigmoid(query's match with the prompt), as in
        Sam3ImageProcessor.post_process_instance_segmentation."""
        limit = self.presence_limit
        there = self.presence_head(self.presence_norm(presence))[:, :, 0].clamp(-limit, limit)
        matches = self.scoring(found[None], prompt, padding == 0)[0, :, :, 0]
        scores: Tensor = matches.float().sigmoid() * there.float().sigmoid()
        return scores

    def _refined(self, boxes: Tensor, queries: Tensor) -> _Anchors:
        moved = self.box_head(self.norm(queries)).float() + _inverse_sigmoid(boxes)
        return self._anchors(moved.sigmoid())

    def _anchors(self, boxes: Tensor) -> _Anchors:
        dtype = self.anchor_head.layer1.weight.dtype
        position = self.anchor_head(self.sine.encode_boxes(boxes).to(dtype))
        return _Anchors(boxes, functional.pad(position, (0, 0, 1, 0)), self._bias(boxes))

    def _bias(self, boxes: Tensor) -> Tensor:
        """Sam3DetrDecoder._get_rpb_matrix: how a box lies to each row plus how to each column.

        The two parts are small; they are put in attention's order, with zeros for the presence
        token, before they are added up to the large P x heads x (1 + Q) x hw.
        """
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        edges = torch.stack((centre - half, centre + half), dim=-1)  # P x Q x (x, y) x (low, high)
        across = self._bias_along(edges[:, :, 0], self.bias_across)
        down = self._bias_along(edges[:, :, 1], self.bias_down)
        return (down[..., :, None] + across[..., None, :]).flatten(-2)

    def _bias_along(self, edges: Tensor, mlp: Any) -> Tensor:
        """P x Q x 2 edges to P x heads x (1 + Q) x side."""
        steps = torch.arange(self.side, device=edges.device, dtype=edges.dtype) / self.side
        deltas = 8 * (steps[:, None] - edges[:, :, None])  # P x Q x side x 2
        logs = deltas.sign() * (deltas.abs() + 1).log2() / math.log2(8)
        # Two inputs are too few for a matrix product: it would take twice as long.
        below, above = mlp.layer1.weight.unbind(1)
        low, high = logs.to(below.dtype).split(1, dim=-1)
        hidden = torch.addcmul(mlp.layer1.bias, low, below).addcmul_(high, above).relu_()
        bias: Tensor = mlp.layer2(hidden).permute(0, 3, 1, 2)
        return functional.pad(bias, (0, 0, 1, 0))


class _DecoderLayer(nn.Module):
    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.self_attention = SelfAttention(stock.self_attn)
        self.exchange_norm = stock.self_attn_layer_norm
        self.prompt_attention = _CrossAttention(stock.text_cross_attn)
        self.prompt_norm = stock.text_cross_attn_layer_norm
        self.memory_attention = _CrossAttention(stock.vision_cross_attn)
        self.memory_norm = stock.vision_cross_attn_layer_norm
        self.mlp, self.mlp_norm = Mlp(stock.mlp), stock.mlp_layer_norm

    def exchange(self, queries: Tensor, position: Tensor) -> Tensor:
        exchanged: Tensor = self.exchange_norm(queries + self.self_attention(queries, position))
        return exchanged

    def look(self, queries: Tensor, anchors: _Anchors, seen: _Seen) -> Tensor:
        placed = queries + anchors.position
        looked = self.prompt_attention(placed, seen.prompt, seen.prompt, seen.padding)
        queries = self.prompt_norm(queries + looked)
        placed = queries + anchors.position
        looked = self.memory_attention(placed, seen.keys, seen.memory, anchors.bias)
        queries = self.memory_norm(queries + looked)
        done: Tensor = self.mlp_norm(queries + self.mlp(queries))
        return done


class _CrossAttention(nn.Module):
    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.heads: int = stock.num_attention_heads
        self.query, self.key, self.value = stock.q_proj, stock.k_proj, stock.v_proj
        self.output = stock.o_proj

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        query, key, value = self.query(queries), self.key(keys), self.value(values)
        output: Tensor = self.output(attend(query, key, value, heads=self.heads, bias=bias))
        return output


def _inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """As transformers' inverse_sigmoid: numerator and denominator are kept above `eps`."""
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()
