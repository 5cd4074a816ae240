"""Stage 1, once per image: the ViT, and of the necks behind it what later stages ask for."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from workers.engine.attention import Mlp, attend, side_by_side
from workers.engine.checkpoint import CheckpointError


class Vit(nn.Module):
    """Sam3ViTModel: B x 3 x S x S normalised pixels to B x C x h x w features.

    Between two global layers the tokens stay sorted by window: all but attention works token by
    token, so that they need to be moved only where a layer of the other kind comes.
    """

    def __init__(self, stock: Any) -> None:
        super().__init__()
        config = stock.config
        self.side: int = config.image_size // config.patch_size
        self.window: int = config.window_size
        if self.side % self.window:
            raise CheckpointError(
                f"a grid of {self.side} patches cannot be cut into windows of {self.window}"
            )
        self.patches = stock.embeddings.patch_embeddings.projection
        self.position = nn.Parameter(_tiled(stock.embeddings.position_embeddings, self.side))
        self.norm = stock.layer_norm
        self.layers = nn.ModuleList(_VitLayer(layer) for layer in stock.layers)

    def forward(self, pixel_values: Tensor) -> Tensor:
        tokens = self.patches(pixel_values.to(self.patches.weight.dtype)).permute(0, 2, 3, 1)
        tokens = self.norm(tokens + self.position)
        batch, windowed = len(tokens), False
        layer: Any
        for layer in self.layers:
            if layer.windowed != windowed:
                tokens = self._join(tokens, batch) if windowed else self._cut(tokens)
                windowed = layer.windowed
            tokens = layer(tokens)
        tokens = self._join(tokens, batch) if windowed else tokens
        return tokens.permute(0, 3, 1, 2)

    def _cut(self, tokens: Tensor) -> Tensor:
        """B x h x w x C to windows, (B windows) x window x window x C."""
        grid = tokens.unflatten(2, (-1, self.window)).unflatten(1, (-1, self.window))
        windows: Tensor = grid.transpose(2, 3).flatten(0, 2)
        return windows

    def _join(self, windows: Tensor, batch: int) -> Tensor:
        count = self.side // self.window
        grid = windows.unflatten(0, (batch, count, count))
        tokens: Tensor = grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return tokens


class _VitLayer(nn.Module):
    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.windowed = stock.window_size > 0
        self.attention_norm, self.mlp_norm = stock.layer_norm1, stock.layer_norm2
        self.attention = _RotaryAttention(stock)
        self.mlp = Mlp(stock.mlp)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens))
        mlp: Tensor = self.mlp(self.mlp_norm(tokens))
        return tokens + mlp


class _RotaryAttention(nn.Module):
    """Sam3ViTRoPEAttention; B x h x w x C in and out, each of the B by itself.

    RoPE turns neighbouring channels as pairs. Here the first half of a head's channels is paired
    with the second: the rows of both projections are sorted so, which no dot product sees.
    """

    def __init__(self, stock: Any) -> None:
        super().__init__()
        attention = stock.attention
        self.heads: int = attention.num_attention_heads
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        self.query_key_value = side_by_side(*projections)
        for start in (0, attention.hidden_size):
            rows = slice(start, start + attention.hidden_size)
            self._pair_by_halves(self.query_key_value.weight.data[rows])
            self._pair_by_halves(self.query_key_value.bias.data[rows])
        self.output = attention.o_proj
        cos, sin = stock.rotary_emb(attention.q_proj.weight, stock.position_ids)
        self.cos, self.sin = nn.Buffer(cos[0, :, None, ::2]), nn.Buffer(sin[0, :, None, ::2])

    def _pair_by_halves(self, rows: Tensor) -> None:
        """In place, (heads d) x ...: channels 0, 2, 4, ... of each head, then 1, 3, 5, ..."""
        pairs = rows.clone().unflatten(0, (self.heads, -1, 2))
        rows.copy_(pairs.transpose(1, 2).reshape(rows.shape))

    def forward(self, tokens: Tensor) -> Tensor:
        batch, height, width, _ = tokens.shape
        query_key, value = self._project(tokens.flatten(1, 2))
        query, key = self._rotate(query_key).flatten(-2).unbind(2)
        looked = attend(query, key, value, heads=self.heads, bias=None)
        output: Tensor = self.output(looked)
        return output.view(batch, height, width, -1)

    def _project(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        channels = tokens.shape[-1]
        query_key, value = self.query_key_value(tokens).split((2 * channels, channels), dim=-1)
        return query_key.unflatten(-1, (2, self.heads, -1)), value

    def _rotate(self, pairs: Tensor) -> Tensor:
        """B x N x 2 x heads x d, in float32 whatever the precision, as the stock does it."""
        one, other = pairs.float().chunk(2, dim=-1)
        cos, sin = self.cos[:, None], self.sin[:, None]
        turned = torch.cat((one * cos - other * sin, other * cos + one * sin), dim=-1)
        return turned.to(pairs.dtype)


class Neck(nn.Module):
    """Sam3VisionNeck without its coarsest level, which Sam3Model computes and throws away.

    The last of the remaining levels is what prompts meet. The finer ones are for masks alone:
    images where nothing is found never need them.
    """

    def __init__(self, stock: Any) -> None:
        super().__init__()
        scales = list(stock.config.scale_factors[:-1])
        if scales[-1] < 1 or any(finer != 2 * coarser for finer, coarser in pairwise(scales)):
            raise CheckpointError(f"neck levels {scales}: each must be twice as fine as the next")
        self.coarse_scale: int = int(scales[-1])
        self.levels = nn.ModuleList(_NeckLevel(layer) for layer in stock.fpn_layers[:-1])

    def coarse(self, features: Tensor) -> Tensor:
        """B x C x h x w."""
        level: Tensor = self.levels[-1](features)
        return level

    def finer(self, features: Tensor) -> tuple[Tensor, ...]:
        """From fine to coarse, each B x C x H x W."""
        return tuple(level(features) for level in list(self.levels)[:-1])


class TrackerNeck(nn.Module):
    """The tracker's own neck on the same ViT features, as Sam3TrackerModel.get_image_embeddings:
    fine levels projected, the coarse one marked as coming from a single image."""

    def __init__(self, tracker: Any) -> None:
        super().__init__()
        decoder = tracker.mask_decoder
        fine, middle, coarse = tracker.vision_encoder.neck.fpn_layers
        self.fine = _NeckLevel(fine, decoder.conv_s0)
        self.middle = _NeckLevel(middle, decoder.conv_s1)
        self.coarse = _NeckLevel(coarse)
        self.alone = nn.Parameter(tracker.no_memory_embedding.view(1, -1, 1, 1))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From fine to coarse, each B x C x H x W."""
        return self.fine(features), self.middle(features), self.coarse(features) + self.alone


class _NeckLevel(nn.Module):
    """Sam3FPNLayer, with the 1x1 projection folded into the transposed convolution before it, and
    one that may come `after` into the last convolution."""

    def __init__(self, stock: Any, after: Any = None) -> None:
        super().__init__()
        before = list(stock.scale_layers)
        projection = stock.proj1
        if before and isinstance(before[-1], nn.ConvTranspose2d):
            projection = _folded(before.pop(), projection)
        self.resize = nn.Sequential(*before, projection)
        self.smooth = _followed(stock.proj2, after) if after else stock.proj2

    def forward(self, features: Tensor) -> Tensor:
        smooth: Tensor = self.smooth(self.resize(features))
        return smooth


def _folded(upsampling: Any, projection: Any) -> nn.ConvTranspose2d:
    """P (T x + b) + c = (P T) x + (P b + c): stride equals kernel, so each pixel is made once."""
    weight = projection.weight[:, :, 0, 0]
    folded = nn.ConvTranspose2d(
        upsampling.in_channels, projection.out_channels, upsampling.kernel_size, upsampling.stride
    )
    folded.weight = nn.Parameter(torch.einsum("imab,om->ioab", upsampling.weight, weight))
    folded.bias = nn.Parameter(weight @ upsampling.bias + projection.bias)
    return folded


def _followed(convolution: Any, projection: Any) -> nn.Conv2d:
    """P (K x + b) + c = (P K) x + (P b + c): of 256 channels only those that P keeps are made."""
    weight = projection.weight[:, :, 0, 0]
    followed = nn.Conv2d(
        convolution.in_channels,
        projection.out_channels,
        convolution.kernel_size,
        padding=convolution.padding,
    )
    followed.weight = nn.Parameter(torch.einsum("om,miab->oiab", weight, convolution.weight))
    followed.bias = nn.Parameter(weight @ convolution.bias + projection.bias)
    return followed


def _tiled(position: Tensor, side: int) -> Tensor:
    """Position embeddings, 1 x (p p) x C, repeated (not stretched) to 1 x side x side x C, as in
    Sam3ViTEmbeddings._tile_position_embeddings."""
    pretrained = int(position.shape[1] ** 0.5)
    times = -(-side // pretrained)
    square = position.detach().view(1, pretrained, pretrained, -1)
    return square.repeat(1, times, times, 1)[:, :side, :side].contiguous()
