"""float8 for the ViT's linear layers: faster, and not the same answers. Only on request."""

import torch
from torch import Tensor, nn

_FLOAT8 = torch.float8_e4m3fn
_GREATEST = torch.finfo(_FLOAT8).max
_MULTIPLE = 16  # of the product's inner size, and of what comes out


class Float8Linear(nn.Module):
    """x W^T + b with x scaled token by token, as it comes, and W once, row by row.

    The scales are applied to the product: one per token and per row is what torch._scaled_mm
    takes on CUDA alone, and it keeps outliers from costing all others their precision.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = _scaled(linear.weight.detach().float())
        self.weight, self.scale = nn.Buffer(weight), nn.Buffer(scale[:, 0])
        self.bias, self.dtype = linear.bias, linear.weight.dtype
        self.one = nn.Buffer(torch.ones((), device=weight.device))

    def forward(self, tokens: Tensor) -> Tensor:
        scaled, scale = _scaled(tokens.flatten(0, -2).float())
        product = torch._scaled_mm(
            scaled, self.weight.t(), scale_a=self.one, scale_b=self.one, out_dtype=torch.float32
        )
        output: Tensor = (product * (scale * self.scale) + self.bias).to(self.dtype)
        return output.view(*tokens.shape[:-1], -1)


def use_float8(stage: nn.Module) -> None:
    """In place: every linear layer of the stage whose sizes suit the hardware."""
    for name, child in stage.named_children():
        if not isinstance(child, nn.Linear):
            use_float8(child)
        elif child.in_features % _MULTIPLE == 0 and child.out_features % _MULTIPLE == 0:
            setattr(stage, name, Float8Linear(child))


def _scaled(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in float8 and what each is to be multiplied with again, R x 1."""
    scale = rows.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / _GREATEST
    return (rows / scale).to(_FLOAT8), scale
