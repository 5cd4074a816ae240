"""What the network says, as the final body of a response in the shapes of Roboflow's API."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from domain.errors import ImageError
from domain.geometry import Box, Point
from domain.interactive import (
    Asked,
    ConceptAsked,
    ConceptRequest,
    EmbedRequest,
    ObjectAsked,
    VisualRequest,
    WorkflowRequest,
)
from domain.prompts import ConceptPrompt
from domain.workflows.errors import WorkflowError
from workers.engine.engine import Pointed
from workers.interactive.binary import npz
from workers.interactive.earlier_masks import EarlierMasks
from workers.interactive.images import ImageRefused, Images, refusal
from workers.interactive.nms import suppress
from workers.interactive.segmenter import SeenImage, SegmentedMask, Segmenter
from workers.interactive.shapes import ShapeFormat, prediction
from workers.interactive.workflow_run import run_workflow

# What the network reads where there is no text; blank text would find nothing in particular.
_TEXTLESS = "visual"


@dataclass(frozen=True, slots=True)
class Reply:
    """Goes to the caller as it is."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"


def json_reply(body: Any, *, status: int = 200) -> Reply:
    return Reply(json.dumps(body, allow_nan=False, separators=(",", ":")).encode(), status)


@dataclass(frozen=True)
class Answers:
    """`owner` is under whom images and masks are kept: nobody else reaches them. `deadline`, in
    seconds of the wall clock, ends work that has many parts with a TimeoutError.

    What is the caller's fault becomes a reply of its own; anything else is raised.
    """

    segmenter: Segmenter
    images: Images
    earlier: EarlierMasks
    max_pixels: int

    def answer(self, asked: Asked, *, files: Sequence[bytes], owner: str, deadline: float) -> Reply:
        try:
            if isinstance(asked, WorkflowRequest):
                return self._workflow(asked, files, owner=owner, deadline=deadline)
            return self._answer(asked, files, owner=owner)
        except ImageError as error:  # too large for the memory
            refused = refusal(error)
            return json_reply({"message": refused.message}, status=refused.status)
        except ImageRefused as refused:
            return json_reply({"message": refused.message}, status=refused.status)
        except WorkflowError as error:
            return json_reply(error.body, status=error.status)

    def _answer(
        self,
        asked: ConceptRequest | VisualRequest | EmbedRequest,
        files: Sequence[bytes],
        *,
        owner: str,
    ) -> Reply:
        started = perf_counter()
        match asked:
            case ConceptRequest():
                body = self._concept(asked, files, owner=owner)
            case VisualRequest(format="binary"):
                return self._binary(asked, files, owner=owner)
            case VisualRequest():
                body = self._visual(asked, files, owner=owner)
            case EmbedRequest():
                body = self._embed(asked, files, owner=owner)
        return json_reply({**body, "time": perf_counter() - started})

    def _concept(
        self, asked: ConceptRequest, files: Sequence[bytes], *, owner: str
    ) -> dict[str, Any]:
        image = self.images.look_at(asked.image, files, owner=owner)
        masks = self.segmenter.concepts(
            image,
            [_concept_prompt(prompt) for prompt in asked.prompts],
            floor=min(prompt.threshold for prompt in asked.prompts),
        )
        counted = [mask for mask in masks if _counts(mask, asked.prompts[mask.prompt])]
        if asked.nms_iou_threshold is not None:
            counted = suppress(counted, iou_threshold=asked.nms_iou_threshold)
        return {"prompt_results": _by_prompt(asked, counted)}

    def _visual(
        self, asked: VisualRequest, files: Sequence[bytes], *, owner: str
    ) -> dict[str, Any]:
        _, masks = self._objects(asked, files, owner=owner)
        shape: ShapeFormat = "rle" if asked.format == "rle" else "polygon"
        return {"predictions": [prediction(mask, format=shape) for mask in masks]}

    def _binary(self, asked: VisualRequest, files: Sequence[bytes], *, owner: str) -> Reply:
        image, masks = self._objects(asked, files, owner=owner)
        return Reply(npz(masks, image), media_type="application/octet-stream")

    def _objects(
        self, asked: VisualRequest, files: Sequence[bytes], *, owner: str
    ) -> tuple[SeenImage, list[SegmentedMask]]:
        """One mask for each prompt, the best. Masks are saved after all are made: no prompt of a
        request refines another of the same."""
        image = self.images.look_at(asked.image, files, owner=owner)
        load = self.earlier.load if asked.load_logits else _no_earlier
        pointed = [
            _pointed(prompt, asked.multimask_output, previous=load(owner, image, prompt))
            for prompt in asked.prompts
        ]
        masks = self.segmenter.objects(image, pointed)
        if asked.save_logits:
            for prompt, mask in zip(asked.prompts, masks, strict=True):
                if mask.logits is not None:
                    self.earlier.save(owner, image, prompt, mask.logits)
        return image, masks

    def _embed(self, asked: EmbedRequest, files: Sequence[bytes], *, owner: str) -> dict[str, Any]:
        """Without an id of the caller's, the pixels name the image."""
        image = self.images.look_at(asked.image, files, owner=owner)
        if asked.image.image_id is not None:
            return {"image_id": asked.image.image_id}
        assert asked.image.file is not None  # else there was an id
        self.images.keep(owner, image.pixels_sha1, image, files[asked.image.file])
        return {"image_id": image.pixels_sha1}

    def _workflow(
        self, asked: WorkflowRequest, files: Sequence[bytes], *, owner: str, deadline: float
    ) -> Reply:
        body = run_workflow(
            asked,
            files=files,
            owner=owner,
            segmenter=self.segmenter,
            max_pixels=self.max_pixels,
            deadline=deadline,
        )
        return json_reply(body)


def _concept_prompt(asked: ConceptAsked) -> ConceptPrompt:
    text = asked.text if asked.text.strip() else _TEXTLESS
    boxes = tuple(Box(*corners) for corners in asked.boxes)
    return ConceptPrompt(text, boxes, asked.box_labels)


def _counts(mask: SegmentedMask, prompt: ConceptAsked) -> bool:
    """Scores are float32: 0.95 as the network says it is a little less than 0.95."""
    return bool(np.float32(mask.score) >= np.float32(prompt.threshold))


def _by_prompt(asked: ConceptRequest, masks: Sequence[SegmentedMask]) -> list[dict[str, Any]]:
    shape: ShapeFormat = "rle" if asked.format == "rle" else "polygon"
    found: list[list[dict[str, Any]]] = [[] for _ in asked.prompts]
    for mask in masks:
        found[mask.prompt].append(prediction(mask, format=shape))
    return [
        {"prompt_index": index, "echo": echo, "predictions": predictions}
        for index, (echo, predictions) in enumerate(zip(asked.echoes, found, strict=True))
    ]


Load = Callable[[str, SeenImage, ObjectAsked], np.ndarray | None]


def _no_earlier(_owner: str, _image: SeenImage, _prompt: ObjectAsked) -> None:
    return None


def _pointed(asked: ObjectAsked, multimask: bool, *, previous: np.ndarray | None) -> Pointed:
    points = tuple(Point(point.x, point.y, point.positive) for point in asked.points)
    return Pointed(points, asked.box, multimask, previous)
