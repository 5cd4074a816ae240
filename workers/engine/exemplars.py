"""Exemplar boxes to prompt tokens: transformers' Sam3GeometryEncoder, for pairs of many images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from workers.engine.coordinates import Exemplar
from workers.engine.moving import moved


class ExemplarEncoder(nn.Module):
    """In float32 whatever the precision of the rest: coordinates go in, and bfloat16 would round
    them to 1/256 of the image."""

    def __init__(self, geometry_encoder: Any, *, position: Tensor) -> None:
        super().__init__()
        self.encoder = geometry_encoder
        self.position = nn.Buffer(position)  # 1 x C x h x w

    def forward(self, coarse: Tensor, exemplars: Sequence[tuple[Exemplar, ...]]) -> list[Tensor]:
        """`coarse` P x C x h x w, the image of each pair; at least one exemplar each.

        Returns for each pair one token per exemplar and a class token, (boxes + 1) x C.
        """
        lengths = torch.tensor([len(row) for row in exemplars])
        boxes = [torch.tensor([one.centred for one in row]) for row in exemplars]
        labels = [torch.tensor([int(one.positive) for one in row]) for row in exemplars]
        encoded = self.encoder(
            box_embeddings=moved(pad_sequence(boxes, batch_first=True), coarse.device),
            box_mask=moved(torch.arange(int(lengths.max())) < lengths[:, None], coarse.device),
            box_labels=moved(pad_sequence(labels, batch_first=True), coarse.device),
            img_feats=(coarse.float(),),
            img_pos_embeds=(self.position,),
        ).last_hidden_state
        return [row[: len(own) + 1] for row, own in zip(encoded, exemplars, strict=True)]
