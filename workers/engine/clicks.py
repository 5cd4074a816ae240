"""The tracker's head on the same ViT pass: one mask for a box, clicks, or both."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from workers.engine.coordinates import Click


class ClickStage:
    """Sam3TrackerModel from its image embeddings on.

    Of its three candidates (whole, part, subpart) the one with the highest predicted IoU is
    taken, and that prediction, 0 to 1, is the score. It says how good the mask is, not how sure
    the network is that there is an object: it does not compare with a concept's score.
    """

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker

    def segment(
        self, levels: Sequence[Tensor], prompts: Sequence[tuple[Click, ...]]
    ) -> Iterator[tuple[int, float, Tensor]]:
        """For each prompt its place in `prompts`, its score, and its mask, h x w float32, above 0
        inside. `levels` are tracker_levels of one image."""
        for places in _by_length(prompts):
            points = torch.tensor([[prompts[place] for place in places]], device=levels[0].device)
            scores, masks = self._run(list(levels), points)
            yield from zip(places, scores.tolist(), masks.float(), strict=True)

    def _run(self, embeddings: list[Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
        output = self._tracker(
            image_embeddings=embeddings,
            input_points=points[..., :2].to(embeddings[0].dtype),
            input_labels=points[..., 2].int(),
            multimask_output=True,
        )
        scores, best = output.iou_scores[0].float().max(dim=-1)
        return scores, output.pred_masks[0, torch.arange(len(best)), best]


def _by_length(prompts: Sequence[tuple[Click, ...]]) -> list[list[int]]:
    """Groups that need no padding: the tracker does not mask padded points, it would see them."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for place, points in enumerate(prompts):
        groups[len(points)].append(place)
    return list(groups.values())
