"""The tracker's head on the same ViT pass: one mask for a box, clicks, or both."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.engine.concepts import Scored, put
from workers.engine.coordinates import Click
from workers.engine.engine import Embedding
from workers.engine.moving import moved
from workers.engine.vision import TrackerNeck

MOST_AT_ONCE = 16  # objects; each takes about 100 MiB at the published size
_REMEMBERED = 8  # images whose levels are kept for the next click, 30 MiB each
_GREATEST_LOGIT = 32.0  # as SAM3InteractiveImagePredictor._predict cuts what it hands on


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One object in one image. `image` counts in the batch, `prompt` in the image's prompts; the
    rest is as in Pointed. `embedding`: of the image, if it came with one."""

    image: int
    prompt: int
    embedding: Embedding | None
    clicks: tuple[Click, ...]
    multimask: bool
    previous: np.ndarray | None


class ClickStage:
    """Sam3TrackerModel from the ViT's features on.

    With `multimask`, of its three candidates (whole, part, subpart) the one with the highest
    predicted IoU is taken, and that prediction, 0 to 1, is the score. It says how good the mask is,
    not how sure the network is that there is an object: it does not compare with a concept's
    score. Without, it is the single mask, unless that is unstable (see
    Sam3TrackerMaskDecoder._dynamic_multimask_via_stability).
    """

    def __init__(self, tracker: Any, device: torch.device) -> None:
        self._tracker = tracker.to(device)
        self._neck = TrackerNeck(tracker)
        put(self._neck, device, torch.float32)
        self._remembered: OrderedDict[Embedding, tuple[Tensor, ...]] = OrderedDict()

    def segment(
        self, features: Tensor, targets: Sequence[Target], *, at_once: int
    ) -> Iterator[list[Scored]]:
        """One mask for each target, in any order. `features` are the ViT's."""
        embeddings = {target.image: target.embedding for target in targets}
        levels = {
            image: self._levels(features[image : image + 1], embedding)
            for image, embedding in embeddings.items()
        }
        for alike in _alike(targets):
            for start in range(0, len(alike), at_once):
                some = alike[start : start + at_once]
                of_each = zip(*(levels[target.image] for target in some), strict=True)
                yield self._run([torch.cat(level) for level in of_each], some)

    def _levels(self, features: Tensor, embedding: Embedding | None) -> tuple[Tensor, ...]:
        """Remembered for an embedding: an object takes several clicks, and this most of the time
        of each."""
        levels = self._remembered.pop(embedding, None) if embedding else None
        if levels is None:
            levels = self._neck(features.float())
        if embedding:
            self._remembered[embedding] = levels
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return levels

    def _run(self, levels: list[Tensor], targets: Sequence[Target]) -> list[Scored]:
        """`levels`: of each target's image."""
        points = moved([[target.clicks] for target in targets], levels[0].device)
        output = self._tracker(
            image_embeddings=levels,
            input_points=points[..., :2].to(levels[0].dtype),
            input_labels=points[..., 2].int(),
            input_masks=_previous(targets, like=levels[0]),
            multimask_output=targets[0].multimask,
        )
        scores, best = output.iou_scores[:, 0].float().max(dim=-1)
        masks = output.pred_masks[torch.arange(len(best)), 0, best].float()
        return [
            Scored(target.image, target.prompt, [score], mask[None])
            for target, score, mask in zip(targets, scores.tolist(), masks, strict=True)
        ]


def _alike(targets: Sequence[Target]) -> list[list[Target]]:
    """Groups that can run together. Also by the number of points: the tracker does not mask padded
    points, it would see them."""
    groups: defaultdict[Any, list[Target]] = defaultdict(list)
    for target in targets:
        shape = None if target.previous is None else target.previous.shape
        groups[len(target.clicks), target.multimask, shape].append(target)
    return list(groups.values())


def _previous(targets: Sequence[Target], *, like: Tensor) -> Tensor | None:
    """Of targets that have all one or none: P x 1 x h x w."""
    masks = [target.previous for target in targets if target.previous is not None]
    if not masks:
        return None
    stacked = torch.from_numpy(np.stack(masks)[:, None]).clamp(-_GREATEST_LOGIT, _GREATEST_LOGIT)
    return moved(stacked, like.device).to(like.dtype)
