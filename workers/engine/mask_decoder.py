"""Stage 5: pixels of the pairs that found something, then a mask for each surviving query."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.engine.attention import PromptAttention


class MaskDecoder(nn.Module):
    """Sam3MaskDecoder without its semantic head: `skips` once per image, `forward` once per pair,
    `masks` for the queries that found something."""

    def __init__(self, stock: Any, *, side: int, upsamplings: int) -> None:
        super().__init__()
        self.side = side
        self.norm = stock.prompt_cross_attn_norm
        self.prompt_attention = PromptAttention(stock.prompt_cross_attn)
        pixels = stock.pixel_decoder
        layers = list(zip(pixels.conv_layers, pixels.norms, strict=True))[:upsamplings]
        self.upsamplings = nn.ModuleList(_Upsampling(*layer) for layer in layers)
        self.embedder, self.projection = stock.mask_embedder, stock.instance_projection

    def skips(self, finer: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The neck's finer levels, from fine to coarse, as the upsamplings add them; coarse first.

        Each B x C x H x W.
        """
        upsamplings: Any = self.upsamplings
        pairs = zip(upsamplings, reversed(finer), strict=True)
        return tuple(upsampling.skip(level) for upsampling, level in pairs)

    def forward(
        self,
        memory: Tensor,
        prompt: Tensor,
        padding: Tensor,
        skips: Sequence[Tensor],
        images: Tensor,
    ) -> Tensor:
        """`memory` P x hw x C from the encoder, `prompt` P x L x C, `padding` P x L: 0 or -inf;
        `images` P numbers, the row in `skips` of each pair. Returns P x C x H x W."""
        tokens = memory + self.prompt_attention(self.norm(memory), prompt, padding)
        pixels = tokens.unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2)
        for upsampling, skip in zip(self.upsamplings, skips, strict=True):
            pixels = upsampling(pixels, skip[images])
        embeddings: Tensor = pixels
        return embeddings

    def masks(self, queries: Tensor, pixels: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """Of each pair K x H x W float32. `pixels` are P x C x H x W, `queries` all pairs' in a
        row, K + K + ... x C, as many of each as `counts` says.

        The 1x1 projection (W, b) of the pixels p is folded into the few queries q:
        q . (W p + b) = (W^T q) . p + q . b. Probabilities less one half: resized like that, and
        cut at 0, they give the masks of Sam3ImageProcessor.post_process_instance_segmentation.
        """
        weight, bias = self.projection.weight[:, :, 0, 0], self.projection.bias
        embedded = self.embedder(queries)
        offsets = (embedded @ bias).float()[:, None, None].split(counts)
        masks = []
        for own, offset, of_pair in zip(
            (embedded @ weight).split(counts), offsets, pixels, strict=True
        ):
            logits = torch.einsum("kc,chw->khw", own, of_pair).float() + offset
            masks.append(logits.sigmoid_().sub_(0.5))
        return masks


class _Upsampling(nn.Module):
    """conv3x3(nearest-upsample(x) + skip), GroupNorm, ReLU; the convolution in sub-pixel form.

    The convolution is linear: that of the skip does not depend on the prompt. That of the
    upsampled x sees every pixel of x two or three times: pixel 2i of the result needs x at i - 1
    (kernel row 0) and at i (rows 1 and 2 added up), pixel 2i + 1 at i (rows 0 and 1) and i + 1
    (row 2). So each of the four pixels that come of one is a 2x2 convolution of x, with 4/9 of
    the products.
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm
        rows = _pair_sums(convolution.weight.detach(), dim=2)
        phases = [kernel for row in rows for kernel in _pair_sums(row, dim=3)]
        self.phases = nn.Parameter(torch.cat(phases))  # (4 C) x C x 2 x 2

    def skip(self, level: Tensor) -> Tensor:
        skip: Tensor = self.convolution(level)
        return skip

    def forward(self, small: Tensor, skip: Tensor) -> Tensor:
        height, width = small.shape[-2:]
        phases = functional.conv2d(small, self.phases, padding=1).unflatten(1, (2, 2, -1))
        large = torch.empty_like(skip)
        for down in range(2):
            for across in range(2):
                phase = phases[:, down, across, :, down : down + height, across : across + width]
                place = (..., slice(down, None, 2), slice(across, None, 2))
                large[place] = phase + skip[place]
        normed: Tensor = self.norm(large)
        return normed.relu_()


def _pair_sums(kernel: Tensor, *, dim: int) -> tuple[Tensor, Tensor]:
    """Rows (a, b, c) along `dim` to (a, b + c) for even pixels and (a + b, c) for odd ones."""
    first, middle, last = kernel.split(1, dim=dim)
    return torch.cat((first, middle + last), dim=dim), torch.cat((first + middle, last), dim=dim)
