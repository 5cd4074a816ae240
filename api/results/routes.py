"""/v1/jobs/{job_id}/results and its neighbours, and /v1/downloads"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.documents import JobId, Page
from api.problems import declared, not_found
from api.results import service
from api.results.links import verify
from api.results.schemas import FailedImagePage, ImageAnnotations, ResultPage
from domain.errors import ImageErrorCode
from domain.result_manifest import ResultManifest
from storage.object_keys import results_root
from storage.object_store import ObjectNotFound

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"], route_class=KeyFirst)
downloads = APIRouter(prefix="/v1/downloads", tags=["results"])

ImageIndex = Annotated[int, Path(ge=0, lt=2**62, description="Counts the job's images from 0")]
MinScore = Annotated[
    float | None,
    Query(ge=0, le=1, description="By default each prompt's threshold counts, 0.5 without one"),
]


@router.get("/results", responses=declared(404))
def list_results(
    job_id: JobId, context: RequestContext, caller: Caller, page: Page, request: Request
) -> ResultPage:
    """The Parquet parts written so far, with links to download them."""
    return service.list_parts(context, job_id, caller, page=page, request=request)


@router.get("/manifest", responses=declared(404, 409))
def get_manifest(job_id: JobId, context: RequestContext, caller: Caller) -> ResultManifest:
    """The newest manifest: what the result consists of."""
    return service.read_manifest(context, job_id, caller)


@router.get("/errors", responses=declared(404, 409))
def list_errors(
    job_id: JobId,
    context: RequestContext,
    caller: Caller,
    page: Page,
    code: Annotated[ImageErrorCode | None, Query()] = None,
) -> FailedImagePage:
    """Images that could not be labelled, in image order; readable while the job runs."""
    return service.list_errors(context, job_id, caller, page=page, code=code)


@router.get("/images/{image_index}/annotations", responses=declared(404, 409))
def get_annotations(
    job_id: JobId,
    image_index: ImageIndex,
    context: RequestContext,
    caller: Caller,
    min_score: MinScore = None,
) -> ImageAnnotations:
    """One image's annotations, as soon as it is labelled."""
    return service.image_annotations(
        context, job_id, caller, image_index=image_index, min_score=min_score
    )


@downloads.get(
    "/{token}",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file"},
        **declared(403, 404, 422, 503),
    },
)
def download(token: str, context: RequestContext) -> StreamingResponse:
    """A result file, by a link that `results` gave. No key is needed."""
    name = verify(token, secret=context.settings.signing_secret.get_secret_value())
    key = results_root(name.job_id) + name.key
    stack = ExitStack()
    try:
        file = stack.enter_context(context.store.open(key))
    except ObjectNotFound as error:
        raise not_found("file") from error
    size = file.seek(0, 2)
    file.seek(0)
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{key.rpartition("/")[2]}"',
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(
        _chunks(file, stack), media_type="application/octet-stream", headers=headers
    )


def _chunks(file: BinaryIO, stack: ExitStack) -> Iterator[bytes]:
    with stack:
        while chunk := file.read(2**18):
            yield chunk
