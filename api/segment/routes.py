"""/sam3/*, as Roboflow's clients call it"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from api.context import RequestContext
from api.interactive.keys import Caller, CallerOrStranger
from api.interactive.refusals import declared
from api.interactive.route import OpenRoute, SingleImageRoute
from api.segment import service
from api.segment.schemas import (
    Cleared,
    ConceptAnswer,
    ConceptBody,
    EmbedAnswer,
    EmbedBody,
    VisualAnswer,
    VisualBody,
)


def _ignored(
    countinference: Annotated[bool | None, Query(description="Without effect")] = None,
) -> None:
    """Clients send it; it is checked as they expect."""


router = APIRouter(
    prefix="/sam3",
    tags=["single images"],
    route_class=SingleImageRoute,
    strict_content_type=False,
    dependencies=[Depends(_ignored)],
    responses=declared(400, 401, 403, 404, 405, 413, 422, 500, 503),
)
clearing = APIRouter(
    tags=["single images"], route_class=OpenRoute, responses=declared(401, 403, 405, 413, 500, 503)
)
_BINARY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}
}


@router.post("/concept_segment", response_model=ConceptAnswer)
async def concept_segment(body: ConceptBody, context: RequestContext, caller: Caller) -> Response:
    """All instances of 1 to 16 concepts, told by words, by boxes around examples, or by both."""
    return await service.concepts(context, caller, body)


@router.post("/visual_segment", response_model=VisualAnswer, responses=_BINARY)
async def visual_segment(body: VisualBody, context: RequestContext, caller: Caller) -> Response:
    """The objects that clicks and boxes point at, a mask for each prompt."""
    return await service.objects(context, caller, body)


@router.post("/embed_image", response_model=EmbedAnswer)
async def embed_image(body: EmbedBody, context: RequestContext, caller: Caller) -> Response:
    """Look at an image ahead of the prompts on it; they name it by `image_id`."""
    return await service.embed(context, caller, body)


@clearing.post("/model/clear")
async def clear(context: RequestContext, caller: CallerOrStranger) -> Cleared:
    """Forget the images and masks kept for your key. Models stay; without a key nothing happens."""
    if caller is not None:
        await context.lane.clear(caller.id)
    return Cleared(models=[])
