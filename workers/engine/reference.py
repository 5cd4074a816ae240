"""The second engine: Meta's own code (the package sam3) as it is published, to compare with.

A request is run as the batched example of Meta's repository and hosted servers run it: one image
and up to 16 queries collated into a batch, one forward with the ViT in it, masks of all queries.
It is here to be faithful, not fast.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from domain.prompts import PROMPTS_PER_PASS, ModelLimits
from workers.engine.coordinates import Concept, clicks, concepts, objects
from workers.engine.engine import Embedding, Found, ImageInput, Pointed, SquashJpegs


@dataclass(frozen=True, slots=True)
class ReferenceCheckpoint:
    """`model` is a Sam3Image in eval mode, on the device it is to run on."""

    name: str
    model: Any
    side: int  # of the square that images are squashed to, in pixels
    tokenizer_json: str
    weights_sha256: str


class Reference:
    """See Engine. One image at a time, in autocast to `dtype` unless that is float32."""

    images_per_batch = 1
    steps = 0  # an image takes it seconds at most

    def __init__(self, checkpoint: ReferenceCheckpoint, *, dtype: torch.dtype) -> None:
        self._model = checkpoint.model
        self._dtype = dtype
        self.name = checkpoint.name
        self.notice: str | None = None
        self.details = str(dtype).removeprefix("torch.")
        self.squash_jpegs: SquashJpegs | None = None  # squashed as published, on the CPU
        self.weights_sha256 = checkpoint.weights_sha256
        self.tokenizer_json = checkpoint.tokenizer_json
        self.device: torch.device = next(checkpoint.model.parameters()).device
        self.limits = ModelLimits(
            text_tokens=self._model.backbone.language_backbone.context_length,
            queries=self._model.transformer.decoder.num_queries,
            image_size=checkpoint.side,
        )
        self._lock = Lock()  # the click predictor keeps the image it works on
        # Sam3Processor's transform, in two halves.
        self._resize = v2.Resize(size=(checkpoint.side, checkpoint.side))
        self._normalise = v2.Compose(
            [
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]),
            ]
        )

    def squash(self, pixels: np.ndarray) -> Tensor:
        # Planes first: Sam3Processor.set_image reads the size of an HxWx3 array as that of CxHxW.
        planes: Tensor = self._resize(torch.from_numpy(pixels).permute(2, 0, 1))
        return planes

    def use_threads(self, count: int | None) -> None:
        """It computes on a GPU."""

    def embed(self, squashed: Sequence[Tensor]) -> list[Embedding]:
        """The squashed pixels: the forward as published has the ViT in it."""
        return [Embedding(one.to(self.device)) for one in squashed]

    def segment(self, images: Sequence[ImageInput]) -> list[list[Found]]:
        """Masks of concepts and of clicks are logits, as the published post-processing has them."""
        with self._lock, torch.inference_mode(), self._autocast():
            return [
                [
                    *self._find_concepts(place, image),
                    *self._segment_clicks(place, image),
                ]
                for place, image in enumerate(images)
            ]

    def _autocast(self) -> torch.autocast:
        # A context of ours: see leave_autocast for the one that Meta's tracker never leaves.
        lower = self._dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=lower)

    def _find_concepts(self, place: int, image: ImageInput) -> Iterator[Found]:
        pixels = self._pixels(image)
        asked = list(concepts(image))
        for start in range(0, len(asked), PROMPTS_PER_PASS):
            queries = asked[start : start + PROMPTS_PER_PASS]
            (output,) = self._model(self._collate(pixels, queries))
            # As PostProcessImage: scores here; masks where the resized logits are above 0.
            scores = output["pred_logits"].float().sigmoid()[..., 0]
            scores = (scores * output["presence_logit_dec"].float().sigmoid()).cpu()
            for row, query in enumerate(queries):
                for chosen in (scores[row] >= image.floor).nonzero()[:, 0].tolist():
                    mask = output["pred_masks"][row, chosen].float().cpu()
                    yield Found(place, query.prompt, float(scores[row, chosen]), mask)

    def _pixels(self, image: ImageInput) -> Tensor:
        squashed = image.pixels if isinstance(image.pixels, Tensor) else image.pixels.features
        pixels: Tensor = self._normalise(squashed.to(self.device))
        return pixels

    def _collate(self, pixels: Tensor, queries: Sequence[Concept]) -> Any:
        # Not Sam3Processor.set_image_batch: it fails with text prompts.
        from sam3.model.utils.misc import copy_data_to_device
        from sam3.train.data.collator import collate_fn_api
        from sam3.train.data.sam3_image_dataset import Datapoint, Image

        size = (self.limits.image_size, self.limits.image_size)
        datapoint = Datapoint(
            find_queries=[_find_query(query, size) for query in queries],
            images=[Image(data=pixels, objects=[], size=size)],
        )
        batch = collate_fn_api([datapoint], dict_key="request")["request"]
        return copy_data_to_device(batch, self.device)

    def _segment_clicks(self, place: int, image: ImageInput) -> Iterator[Found]:
        asked = dict(objects(image))
        if not asked:
            return
        side = self._model.inst_interactive_predictor.model.low_res_mask_size
        state = self._click_state(image, side)
        for position, pointed in asked.items():
            points = clicks(pointed, width=image.width, height=image.height, side=side)
            score, mask, logits = self._predict(state, pointed, np.array(points, np.float32))
            wanted = isinstance(image.prompts[position], Pointed)
            yield Found(place, position, score, mask, logits if wanted else None)

    def _click_state(self, image: ImageInput, side: int) -> dict[str, Any]:
        """As Sam3Processor.set_image, but for an original of the masks' own size: the predictor
        then gives its masks (with small holes filled) before they are resized to the image."""
        seen = self._model.backbone.forward_image(self._pixels(image)[None])
        decoder = self._model.inst_interactive_predictor.model.sam_mask_decoder
        levels = seen["sam2_backbone_out"]["backbone_fpn"]
        levels[0], levels[1] = decoder.conv_s0(levels[0]), decoder.conv_s1(levels[1])
        return {"backbone_out": seen, "original_height": side, "original_width": side}

    def _predict(
        self, state: dict[str, Any], pointed: Pointed, points: np.ndarray
    ) -> tuple[float, Tensor, np.ndarray]:
        """Of the candidates the one with the highest predicted IoU, which is the score; its mask
        with small holes filled, and as the network gave it."""
        previous = pointed.previous
        masks, scores, logits = self._model.predict_inst(
            state,
            point_coords=points[:, :2],
            point_labels=points[:, 2].astype(np.int32),
            mask_input=None if previous is None else previous[None],
            multimask_output=pointed.multimask,
            return_logits=True,
        )
        best = int(scores.argmax())
        return float(scores[best]), torch.from_numpy(masks[best]).float(), logits[best]


def _find_query(query: Concept, size: tuple[int, int]) -> Any:
    from sam3.train.data.sam3_image_dataset import FindQueryLoaded, InferenceMetadata

    boxes = [exemplar.centred for exemplar in query.exemplars]
    labels = [exemplar.positive for exemplar in query.exemplars]
    return FindQueryLoaded(
        query_text=query.text,
        image_id=0,
        object_ids_output=[],
        is_exhaustive=True,
        input_bbox=torch.tensor(boxes) if boxes else None,
        input_bbox_label=torch.tensor(labels) if boxes else None,
        inference_metadata=InferenceMetadata(
            coco_image_id=query.prompt,
            original_image_id=query.prompt,
            original_category_id=1,
            original_size=size,
            object_id=0,
            frame_index=0,
        ),
    )
