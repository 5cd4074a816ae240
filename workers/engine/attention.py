"""What the transformer stages share: attention over B x N x C tensors, and weights put together.

The stages copy transformers' Sam3 modules in meaning, not in form: projections that read the same
tensor are one product, dropout (always off) is gone, and what can be folded is folded once.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


def attention_of_images() -> AbstractContextManager[None]:
    """Which kernels torch tries first for the ViT: on an H200 cuDNN's take 2.09 ms in a global
    layer, flash attention's 2.89."""
    fused = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    kernels: AbstractContextManager[None] = sdpa_kernel(
        [*fused, SDPBackend.MATH], set_priority=True
    )
    return kernels


def attention_of_pairs() -> AbstractContextManager[None]:
    """The same without cuDNN's: for heads of 32 channels they are no faster, and they plan anew,
    for 50 ms and more, for every number of pairs and prompt tokens."""
    fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    kernels: AbstractContextManager[None] = sdpa_kernel(
        [*fused, SDPBackend.MATH], set_priority=True
    )
    return kernels


def attend(query: Tensor, key: Tensor, value: Tensor, *, heads: int, bias: Tensor | None) -> Tensor:
    """softmax(q k / sqrt(d) + bias) v for each head; B x N x C in and out.

    `bias` broadcasts to B x heads x N x M.
    """
    query, key, value = (split_heads(part, heads) for part in (query, key, value))
    looked = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return looked.transpose(1, 2).flatten(2)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """B x N x C to B x heads x N x C/heads."""
    apart: Tensor = tokens.unflatten(-1, (heads, -1)).transpose(1, 2)
    return apart


def side_by_side(*projections: nn.Linear) -> nn.Linear:
    """One product for projections of the same tensor; their outputs lie next to each other."""
    first = projections[0]
    outputs = sum(projection.out_features for projection in projections)
    fused: nn.Linear = nn.utils.skip_init(nn.Linear, first.in_features, outputs)
    fused.weight.data = torch.cat([projection.weight for projection in projections])
    fused.bias.data = torch.cat([projection.bias for projection in projections])
    return fused


class Mlp(nn.Module):
    """Sam3MLP: C to C through a wider layer."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.widen, self.narrow = stock.fc1, stock.fc2
        relu = isinstance(stock.activation_fn, nn.ReLU)
        self.activation = nn.ReLU(inplace=True) if relu else stock.activation_fn

    def forward(self, tokens: Tensor) -> Tensor:
        narrow: Tensor = self.narrow(self.activation(self.widen(tokens)))
        return narrow


class SelfAttention(nn.Module):
    """Sam3Attention where queries and keys know their position and values do not."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.heads: int = stock.num_attention_heads
        self.query_key = side_by_side(stock.q_proj, stock.k_proj)
        self.value, self.output = stock.v_proj, stock.o_proj

    def forward(self, tokens: Tensor, position: Tensor) -> Tensor:
        """`tokens` B x N x C; `position` broadcasts to it."""
        query, key = self.query_key(tokens + position).chunk(2, dim=-1)
        looked = attend(query, key, self.value(tokens), heads=self.heads, bias=None)
        output: Tensor = self.output(looked)
        return output


class PromptAttention(nn.Module):
    """Sam3Attention from thousands of image tokens to the few of a prompt, without projecting
    the many.

    The score of image token x and prompt token t in a head is
    (W_q x + b_q) . k_t / sqrt(d) = x . (W_q^T k_t) / sqrt(d) + b_q . k_t / sqrt(d), and the output
    sum_t a_t W_o v_t + b_o: both matrices of x move over to the prompt. With L prompt tokens an
    image token costs 2 C L heads products instead of 2 C^2 and the attention itself.
    """

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.heads: int = stock.num_attention_heads
        self.query, self.output = stock.q_proj, stock.o_proj
        self.key_value = side_by_side(stock.k_proj, stock.v_proj)

    def forward(self, tokens: Tensor, prompt: Tensor, padding: Tensor) -> Tensor:
        """`tokens` P x N x C, `prompt` P x L x C, `padding` P x L: 0, or -inf where padded."""
        heads, dimension = self.heads, tokens.shape[-1] // self.heads
        key, value = self.key_value(prompt).unflatten(-1, (2, heads, dimension)).unbind(2)
        key = key * dimension**-0.5
        query_weight = self.query.weight.unflatten(0, (heads, dimension))
        output_weight = self.output.weight.unflatten(1, (heads, dimension))
        from_tokens = torch.einsum("plhd,hdc->pclh", key, query_weight)
        offset = torch.einsum("plhd,hd->plh", key, self.query.bias.unflatten(0, (heads, dimension)))
        offset = (offset + padding[:, :, None]).flatten(1)[:, None]
        to_tokens = torch.einsum("plhd,chd->plhc", value, output_weight)
        scores = torch.baddbmm(offset, tokens, from_tokens.flatten(2))
        weights = scores.unflatten(-1, (-1, heads)).softmax(dim=2).flatten(2)
        return torch.baddbmm(self.output.bias, weights, to_tokens.flatten(1, 2))
