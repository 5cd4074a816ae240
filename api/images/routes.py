"""/v1/jobs/{job_id}/images"""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.auth import Caller, KeyFirst
from api.conditional import known_etags, not_modified
from api.context import RequestContext
from api.documents import JobId, Page
from api.images import listing
from api.images.schemas import JobImagePage, Sort
from api.problems import declared
from api.results.routes import ImageIndex

router = APIRouter(prefix="/v1/jobs/{job_id}/images", tags=["results"], route_class=KeyFirst)

_KEPT = {
    "Cache-Control": "private, max-age=3600",
    "Vary": "Authorization, Cookie",  # what one key has seen is not for the next
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'",
}


@router.get("", responses=declared(404, 409))
async def list_images(
    job_id: JobId,
    context: RequestContext,
    caller: Caller,
    page: Page,
    *,
    sort: Annotated[
        Sort,
        Query(
            description="By number; most or fewest instances, lowest or highest score, failed ones "
            "first. All but `index` sort the first 100,000 images, and have failed ones last"
        ),
    ] = Sort.INDEX,
    first: Annotated[
        int,
        Query(
            ge=0,
            lt=2**62,
            description="Where to begin without a `cursor`: at this image in the order of `index`, "
            "at this place of the others, from 0",
        ),
    ] = 0,
    annotations: Annotated[bool, Query(description="With all instances and their masks")] = False,
) -> JobImagePage:
    """The images that have an outcome, also while the job runs. Pages may be short although more
    follow."""
    if sort is Sort.INDEX:
        return await run_in_threadpool(
            listing.by_index,
            context,
            job_id,
            caller,
            page=page,
            first=first,
            with_annotations=annotations,
        )
    return await context.rank_turns.run(
        caller.id,
        listing.by_rank,
        context,
        job_id,
        caller,
        page=page,
        sort=sort,
        first=first,
        with_annotations=annotations,
    )


@router.get(
    "/{image_index}/picture",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "You have it already"},
        **declared(404, 415, 502),
    },
)
async def get_picture(
    job_id: JobId,
    image_index: ImageIndex,
    request: Request,
    context: RequestContext,
    caller: Caller,
    *,
    longest_side: Annotated[int, Query(ge=64, le=4096, description="Pixels, at most")] = 320,
) -> Response:
    """The image as JPEG, upright and not larger than it is. Refused with the code of the image's
    error: 404 where its file is gone, 415 where it cannot be shown, 502 where it cannot be had."""
    job = await run_in_threadpool(listing.job_of, context, job_id, caller)
    picture = await context.pictures.picture(
        job, image_index, longest_side=longest_side, known=known_etags(request)
    )
    if picture.jpeg is None:
        return not_modified(picture.etag, _KEPT)
    headers = {**_KEPT, "ETag": picture.etag}
    return Response(picture.jpeg, media_type="image/jpeg", headers=headers)
