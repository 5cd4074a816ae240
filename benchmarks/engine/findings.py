"""What networks find, or with random weights, which find nothing, what they are taken to find."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_KEPT, _DROPPED = 0.9, 0.0
_SURE = 20.0  # a logit: its sigmoid is 1, also in bfloat16


@dataclass(frozen=True)
class StandIn:
    """`kept` prompts x queries, bool: which pass the gate, the same in every image. `blobs`, one
    of them for each of those in turn, K x h x w, -0.5 to 0.5: above 0 inside, as smooth as masks
    are."""

    kept: Tensor
    blobs: Tensor


def stand_in(
    *,
    prompts: int,
    present: int,
    instances: int,
    queries: int,
    mask_side: int,
    device: torch.device,
) -> StandIn:
    """`instances` in all, dealt to the first `present` of the prompts."""
    kept = torch.zeros(prompts, queries, dtype=torch.bool)
    present = max(1, min(present, prompts))
    for prompt in range(present):
        kept[prompt, : (instances + present - 1 - prompt) // present] = True
    blobs = torch.stack([_blob(number, mask_side) for number in range(int(kept.sum()))])
    return StandIn(kept.to(device), blobs.to(device))


def _blob(number: int, side: int) -> Tensor:
    """A disc with a wavy outline, its radius a twentieth to a sixth of the image."""
    random = torch.Generator().manual_seed(number)
    x, y, size, phase = torch.rand(4, generator=random).tolist()
    places = (torch.arange(side) + 0.5) / side
    across, down = places[None] - 0.2 - 0.6 * x, places[:, None] - 0.2 - 0.6 * y
    angle = torch.atan2(down, across)
    radius = (0.05 + 0.11 * size) * (1 + 0.2 * torch.sin(5 * angle + 6.28 * phase))
    blob: Tensor = ((radius - torch.hypot(across, down)) * side / 8).clamp(-0.5, 0.5)
    return blob


class Findings:
    """Lets pass what was computed, or puts the stand-in in its place. Every way of doing it goes
    through here after its scores and again after its masks, so that it costs all the same.

    While `comparing`, masks pass as computed, and computed scores are remembered.
    """

    def __init__(self) -> None:
        self.stand_in: StandIn | None = None
        self.computed: list[Tensor] = []
        self._comparing = False
        self._pairs = self._masks = 0

    def begin(self, *, comparing: bool) -> None:
        """Before the first image of a run: pairs and masks come in the order of the images."""
        self._comparing, self._pairs, self._masks = comparing, 0, 0
        self.computed = []

    @contextmanager
    def replaced_by(self, stand_in: StandIn) -> Iterator[None]:
        before, self.stand_in = self.stand_in, stand_in
        try:
            yield
        finally:
            self.stand_in = before

    def watch(self, decoder: Any, mask_decoder: Any) -> None:
        """Of stages like ours; once each."""
        decode, masks = decoder.forward, mask_decoder.masks

        def forward(*arguments: Tensor) -> tuple[Tensor, Tensor]:
            queries, scores = decode(*arguments)
            return queries, self._scores(scores)

        decoder.forward = forward
        mask_decoder.masks = lambda *arguments: [self._blobs(one) for one in masks(*arguments)]

    def in_stock(self, outputs: Any) -> Any:
        """A Sam3ImageSegmentationOutput."""
        if self.stand_in is None:
            return outputs
        logits, presence = outputs.pred_logits, outputs.presence_logits
        scores = self._scores(logits.sigmoid() * presence.sigmoid())
        outputs.pred_logits = torch.where(scores > 0.5, torch.full_like(logits, 2.2), -_SURE)
        outputs.presence_logits = torch.full_like(presence, _SURE)
        self._draw(outputs.pred_masks, scores)
        return outputs

    def in_meta(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Around Sam3Image.forward_grounding."""

        def called(*arguments: Any, **named: Any) -> Any:
            out = forward(*arguments, **named)
            if self.stand_in is not None:
                logits = out["pred_logits"]
                scores = self._scores(logits[..., 0].float().sigmoid())
                out["pred_logits"] = torch.where(scores > 0.5, 2.2, -_SURE)[..., None].to(logits)
                out["presence_logit_dec"] = torch.full_like(out["presence_logit_dec"], _SURE)
                self._draw(out["pred_masks"], scores)
            return out

        return called

    def _scores(self, computed: Tensor) -> Tensor:
        if self.stand_in is None:
            return computed
        if self._comparing:
            self.computed.append(computed.float().cpu())
        pairs = torch.arange(self._pairs, self._pairs + len(computed), device=computed.device)
        self._pairs += len(computed)
        kept = self.stand_in.kept[pairs % len(self.stand_in.kept)]
        return torch.where(kept, _KEPT, _DROPPED).to(computed)

    def _draw(self, logits: Tensor, scores: Tensor) -> None:
        """In place, P x Q x h x w, where scores say so."""
        chosen = scores > 0.5
        logits[chosen] = self._blobs(logits[chosen])

    def _blobs(self, computed: Tensor) -> Tensor:
        if self.stand_in is None or self._comparing:
            return computed
        numbers = torch.arange(self._masks, self._masks + len(computed), device=computed.device)
        self._masks += len(computed)
        return self.stand_in.blobs[numbers % len(self.stand_in.blobs)].to(computed)
