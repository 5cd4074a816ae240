"""From a checked body to the lane's request: bytes of images, corners, thresholds."""

from collections.abc import Sequence
from typing import Literal

from fastapi import Response

from api.context import Context
from api.interactive.documents import ImageDocument
from api.interactive.images import ImageRefused
from api.interactive.refusals import Refused
from api.segment.schemas import (
    AnyBox,
    Box,
    CenteredBox,
    Concept,
    ConceptBody,
    EmbedBody,
    ImageBody,
    ObjectPrompt,
    VisualBody,
)
from domain.interactive import (
    Asked,
    ConceptAsked,
    ConceptRequest,
    Corners,
    EmbedRequest,
    ImageAsked,
    MaskFormat,
    ObjectAsked,
    PointAsked,
    VisualRequest,
)
from domain.prompts import VISUAL_TEXT
from domain.thresholds import DEFAULT_MIN_SCORE
from storage.keys import ApiKey

_UNKNOWN_MODEL = (
    "Requested Roboflow resource not found. Make sure that workspace, project or model you "
    "referred in request exists."
)
_FORMATS: dict[str | None, MaskFormat] = {"rle": "rle", "binary": "binary"}


async def concepts(context: Context, caller: ApiKey, body: ConceptBody) -> Response:
    if not body.model_id.startswith("sam3/") and body.model_id != context.settings.models[0]:
        raise Refused(404, _UNKNOWN_MODEL)
    image, files = await _image(context, caller, body)
    asked = ConceptRequest(
        image=image,
        prompts=tuple(_concept(prompt, default=body.output_prob_thresh) for prompt in body.prompts),
        echoes=tuple(_echo(index, prompt) for index, prompt in enumerate(body.prompts)),
        format=_FORMATS.get(body.format, "polygon"),
        nms_iou_threshold=body.nms_iou_threshold,
    )
    return await answered(context, caller, asked, files=files)


async def objects(context: Context, caller: ApiKey, body: VisualBody) -> Response:
    image, files = await _image(context, caller, body)
    prompts = body.prompts.prompts if body.prompts else None
    asked = VisualRequest(
        image=image,
        prompts=tuple(map(_object, prompts or [ObjectPrompt()])),
        multimask_output=body.multimask_output,
        format=_FORMATS.get(body.format, "polygon"),
        save_logits=body.save_logits_to_cache,
        load_logits=body.load_logits_from_cache,
    )
    return await answered(context, caller, asked, files=files)


async def embed(context: Context, caller: ApiKey, body: EmbedBody) -> Response:
    image, files = await _image(context, caller, body)
    return await answered(context, caller, EmbedRequest(image=image), files=files)


async def answered(
    context: Context, caller: ApiKey, asked: Asked, *, files: Sequence[bytes]
) -> Response:
    """What the worker wrote, unchanged."""
    answer = await context.lane.ask(asked, key_id=caller.id, files=files)
    headers = {"Retry-After": "2"} if answer.status == 503 else {}
    return Response(
        answer.body, status_code=answer.status, headers=headers, media_type=answer.media_type
    )


async def _image(
    context: Context, caller: ApiKey, body: ImageBody | EmbedBody
) -> tuple[ImageAsked, list[bytes]]:
    """An image without a value stands for the one that its id names already."""
    if body.image_id is not None and body.image.value is None:
        return ImageAsked(image_id=body.image_id), []
    data = await _loaded(context, caller, body.image)
    origin: Literal["base64", "url"] = "url" if body.image.type.lower() == "url" else "base64"
    return ImageAsked(file=0, image_id=body.image_id, origin=origin), [data]


async def _loaded(context: Context, caller: ApiKey, image: ImageDocument) -> bytes:
    try:
        return await context.images.load(image.type, image.value, key_id=caller.id)
    except ImageRefused as error:
        raise Refused(400, f"Could not load input image. Cause: {error.cause}") from error


def _concept(prompt: Concept, *, default: float | None) -> ConceptAsked:
    boxes = tuple(map(_corners, prompt.boxes or []))
    labels = prompt.box_labels or [True] * len(boxes)
    thresholds = (prompt.output_prob_thresh, default, DEFAULT_MIN_SCORE)
    return ConceptAsked(
        text=VISUAL_TEXT if prompt.text is None else prompt.text,
        boxes=boxes,
        box_labels=tuple(map(bool, labels)),
        threshold=next(value for value in thresholds if value is not None),
    )


def _echo(index: int, prompt: Concept) -> dict[str, object]:
    return {
        "prompt_index": index,
        "type": "visual" if prompt.boxes else "text",
        "text": prompt.text,
        "num_boxes": len(prompt.boxes or []),
    }


def _object(prompt: ObjectPrompt) -> ObjectAsked:
    points = [PointAsked(x=p.x, y=p.y, positive=p.positive) for p in prompt.points or []]
    return ObjectAsked(points=tuple(points), box=_around(prompt.box) if prompt.box else None)


def _corners(box: AnyBox) -> Corners:
    if isinstance(box, Box):
        return _sorted_corners(box.x, box.y, box.x + box.width, box.y + box.height)
    return _sorted_corners(box.x0, box.y0, box.x1, box.y1)


def _around(box: CenteredBox) -> Corners:
    half_width, half_height = box.width / 2, box.height / 2
    return _sorted_corners(
        box.x - half_width, box.y - half_height, box.x + half_width, box.y + half_height
    )


def _sorted_corners(x0: float, y0: float, x1: float, y1: float) -> Corners:
    """A side of no length gets one pixel's: a box without area shows the network nothing."""
    left, right = sorted((x0, x1))
    top, bottom = sorted((y0, y1))
    return left, top, right if right > left else left + 1, bottom if bottom > top else top + 1
