"""Stage 3, once per (image, prompt) pair: image tokens look at each other and at the prompt."""

from typing import Any

from torch import Tensor, nn

from workers.engine.attention import Mlp, PromptAttention, SelfAttention


class DetrEncoder(nn.Module):
    """Sam3DetrEncoder. Its first self-attention comes before the first look at the prompt, so it
    is the same for all prompts of an image: `begin` does it once per image, `forward` the rest."""

    def __init__(self, stock: Any, *, position: Tensor) -> None:
        super().__init__()
        self.position = nn.Parameter(position)
        self.layers = nn.ModuleList(_EncoderLayer(layer) for layer in stock.layers)

    def begin(self, coarse: Tensor) -> Tensor:
        """The neck's coarse level, B x C x h x w, to tokens B x hw x C."""
        first: Any = self.layers[0]
        begun: Tensor = first.mix(coarse.flatten(2).transpose(1, 2), self.position)
        return begun

    def forward(self, tokens: Tensor, prompt: Tensor, padding: Tensor) -> Tensor:
        """`tokens` P x hw x C as begun, `prompt` P x L x C, `padding` P x L: 0 or -inf."""
        layer: Any
        for number, layer in enumerate(self.layers):
            if number:
                tokens = layer.mix(tokens, self.position)
            tokens = layer.look(tokens, prompt, padding)
        return tokens


class _EncoderLayer(nn.Module):
    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.mix_norm, self.prompt_norm = stock.layer_norm1, stock.layer_norm2
        self.mlp_norm = stock.layer_norm3
        self.self_attention = SelfAttention(stock.self_attn)
        self.prompt_attention = PromptAttention(stock.cross_attn)
        self.mlp = Mlp(stock.mlp)

    def mix(self, tokens: Tensor, position: Tensor) -> Tensor:
        mixed: Tensor = self.self_attention(self.mix_norm(tokens), position)
        return tokens + mixed

    def look(self, tokens: Tensor, prompt: Tensor, padding: Tensor) -> Tensor:
        tokens = tokens + self.prompt_attention(self.prompt_norm(tokens), prompt, padding)
        mlp: Tensor = self.mlp(self.mlp_norm(tokens))
        return tokens + mlp
