"""What the network says, as the final body of a response in the shapes of Roboflow's API."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from domain.errors import ImageError
from domain.geometry import Box, Point
from domain.interactive import (
    Asked,
    ConceptAsked,
    ConceptRequest,
    EmbedRequest,
    MaskFormat,
    VisualRequest,
    WorkflowRequest,
)
from domain.prompts import VISUAL_TEXT, ConceptPrompt
from domain.thresholds import reaches
from domain.workflows.errors import WorkflowError
from storage.lane import MAX_REPLY_BYTES
from storage.tracing import span
from workers.engine.engine import Pointed
from workers.interactive.binary import MAX_PIXELS, npz
from workers.interactive.deadlines import check_time
from workers.interactive.earlier_masks import EarlierMasks
from workers.interactive.images import ImageRefused, Images, refusal
from workers.interactive.nms import suppress
from workers.interactive.segmenter import SeenImage, SegmentedMask, Segmenter
from workers.interactive.shapes import ShapeFormat, prediction
from workers.interactive.workflow_run import run_workflow


@dataclass(frozen=True, slots=True)
class Reply:
    """Goes to the caller as it is."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"


def json_reply(body: Any, *, status: int = 200) -> Reply:
    return Reply(_json(body), status)


@dataclass(frozen=True)
class Answers:
    """`owner` is under whom images and masks are kept: nobody else reaches them. `deadline`, a
    time of time.monotonic(), ends work before its next part with a TimeoutError.

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
            return self._answer(asked, files, owner=owner, deadline=deadline)
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
        deadline: float,
    ) -> Reply:
        started = perf_counter()
        with span("look at image"):
            image = self.images.look_at(asked.image, files, owner=owner, deadline=deadline)
        with span("find masks"):
            match asked:
                case ConceptRequest():
                    body = self._concept(asked, image, deadline=deadline)
                case VisualRequest(format="binary"):
                    return self._binary(asked, image, owner=owner, deadline=deadline)
                case VisualRequest():
                    body = self._visual(asked, image, owner=owner, deadline=deadline)
                case EmbedRequest():
                    body = self._embed(asked, files, image, owner=owner)
        return Reply(_object({**body, "time": _json(perf_counter() - started)}))

    def _concept(
        self, asked: ConceptRequest, image: SeenImage, *, deadline: float
    ) -> dict[str, bytes]:
        masks = self.segmenter.concepts(
            image,
            [_concept_prompt(prompt) for prompt in asked.prompts],
            floor=min(prompt.threshold for prompt in asked.prompts),
            deadline=deadline,
        )
        counted = [
            mask for mask in masks if reaches(mask.score, asked.prompts[mask.prompt].threshold)
        ]
        if asked.nms_iou_threshold is not None:
            counted = suppress(counted, iou_threshold=asked.nms_iou_threshold, deadline=deadline)
        return {"prompt_results": _by_prompt(asked, counted, deadline=deadline)}

    def _visual(
        self, asked: VisualRequest, image: SeenImage, *, owner: str, deadline: float
    ) -> dict[str, bytes]:
        masks = self._objects(asked, image, owner=owner, deadline=deadline)
        told = _told(masks, asked.format, deadline=deadline)
        return {"predictions": _array(text for _, text in told)}

    def _binary(
        self, asked: VisualRequest, image: SeenImage, *, owner: str, deadline: float
    ) -> Reply:
        _check_pixels(len(asked.prompts), image)
        masks = self._objects(asked, image, owner=owner, deadline=deadline)
        body = npz(masks, image, deadline=deadline)
        return Reply(body, media_type="application/octet-stream")

    def _objects(
        self, asked: VisualRequest, image: SeenImage, *, owner: str, deadline: float
    ) -> list[SegmentedMask]:
        """One mask for each prompt, the best. Masks are saved after all are made: no prompt of a
        request refines another of the same."""
        pointed = self._pointed(asked, image, owner=owner, deadline=deadline)
        masks = self.segmenter.objects(image, pointed, deadline=deadline)
        if asked.save_logits:
            for prompt, mask in zip(asked.prompts, masks, strict=True):
                check_time(deadline)
                if mask.logits is not None:
                    self.earlier.save(owner, image, prompt, mask.logits)
        return masks

    def _pointed(
        self, asked: VisualRequest, image: SeenImage, *, owner: str, deadline: float
    ) -> list[Pointed]:
        pointed: list[Pointed] = []
        earlier = self.earlier.of(owner, image)
        for prompt in asked.prompts:
            check_time(deadline)
            previous = earlier.fitting(prompt) if asked.load_logits else None
            points = tuple(Point(point.x, point.y, point.positive) for point in prompt.points)
            pointed.append(Pointed(points, prompt.box, asked.multimask_output, previous))
        return pointed

    def _embed(
        self, asked: EmbedRequest, files: Sequence[bytes], image: SeenImage, *, owner: str
    ) -> dict[str, bytes]:
        """Without an id of the caller's, the pixels name the image."""
        if asked.image.image_id is not None:
            return {"image_id": _json(asked.image.image_id)}
        assert asked.image.file is not None  # else there was an id
        self.images.keep(owner, image.pixels_sha1, image, files[asked.image.file])
        return {"image_id": _json(image.pixels_sha1)}

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
    """Blank text would find nothing in particular."""
    text = asked.text if asked.text.strip() else VISUAL_TEXT
    boxes = tuple(Box(*corners) for corners in asked.boxes)
    return ConceptPrompt(text, boxes, asked.box_labels)


def _check_pixels(count: int, image: SeenImage) -> None:
    pixels = count * image.width * image.height
    if pixels > MAX_PIXELS:
        said = f"{count} binary masks of {image.width} x {image.height} are {pixels} pixels"
        raise ImageRefused(f"{said}; {MAX_PIXELS} are allowed.", status=400)


# -- JSON -----------------------------------------------------------------------------------------


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _array(values: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(values) + b"]"


def _object(values: Mapping[str, bytes]) -> bytes:
    return b"{" + b",".join(_json(name) + b":" + value for name, value in values.items()) + b"}"


def _by_prompt(asked: ConceptRequest, masks: Sequence[SegmentedMask], *, deadline: float) -> bytes:
    found: list[list[bytes]] = [[] for _ in asked.prompts]
    for prompt, text in _told(masks, asked.format, deadline=deadline):
        found[prompt].append(text)
    return _array(
        _object({"prompt_index": _json(index), "echo": _json(echo), "predictions": _array(texts)})
        for index, (echo, texts) in enumerate(zip(asked.echoes, found, strict=True))
    )


def _told(
    masks: Sequence[SegmentedMask], asked: MaskFormat, *, deadline: float
) -> Iterator[tuple[int, bytes]]:
    """The prompt and the prediction of each mask. One by one: all at once would hold up every
    thread of the process, and take 20 times the memory as objects of Python's."""
    shape: ShapeFormat = "rle" if asked == "rle" else "polygon"
    byte_count = 0
    for mask in masks:
        check_time(deadline)
        text = _json(prediction(mask, format=shape))
        byte_count += len(text)
        if byte_count > MAX_REPLY_BYTES:
            said = f"The answer would have more than {MAX_REPLY_BYTES} bytes."
            raise ImageRefused(f"{said} Ask about fewer objects at a time.", status=413)
        yield mask.prompt, text
