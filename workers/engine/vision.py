"""Stage 1, once per image: the ViT, and the feature pyramids of both heads."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Pyramid:
    """What the concept stages see of a batch of images.

    `levels` are B x C x H x W from fine to coarse; `position` is 1 x C x h x w, that of the
    coarsest level, the only one the DETR encoder and the geometry encoder read.
    """

    levels: tuple[Tensor, ...]
    position: Tensor


class Features:
    """One pass of the ViT over a batch, B x C x h x w, and on demand a neck for each head."""

    def __init__(self, features: Tensor, *, detector: Any, tracker: Any) -> None:
        self._features = features
        self._detector = detector
        self._tracker = tracker

    @cached_property
    def pyramid(self) -> Pyramid:
        neck = self._detector.vision_encoder.neck
        # Sam3Model computes the last, coarsest level (scale 0.5) and throws it away.
        levels = tuple(layer(self._features) for layer in neck.fpn_layers[:-1])
        coarse = levels[-1]
        position = neck.position_encoding(
            torch.Size((1, *coarse.shape[1:])), coarse.device, coarse.dtype
        )
        return Pyramid(levels, position)

    @cached_property
    def tracker_levels(self) -> tuple[Tensor, ...]:
        """As Sam3TrackerModel.get_image_embeddings: fine levels projected, the coarse one marked
        as coming from a single image."""
        fine, middle, coarse = (
            layer(self._features) for layer in self._tracker.vision_encoder.neck.fpn_layers
        )
        decoder = self._tracker.mask_decoder
        alone = self._tracker.no_memory_embedding.view(1, -1, 1, 1)
        return decoder.conv_s0(fine), decoder.conv_s1(middle), coarse + alone


def see(pixel_values: Tensor, *, detector: Any, tracker: Any) -> Features:
    """`pixel_values` is B x 3 x S x S, normalised."""
    tokens = detector.vision_encoder.backbone(pixel_values).last_hidden_state
    batch, _, width = tokens.shape
    side = pixel_values.shape[-1] // detector.config.vision_config.backbone_config.patch_size
    spatial = tokens.view(batch, side, side, width).permute(0, 3, 1, 2)
    return Features(spatial, detector=detector, tracker=tracker)
