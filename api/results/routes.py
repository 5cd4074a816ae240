"""/v1/jobs/{job_id}/results and its neighbours, and /v1/downloads"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import StreamingResponse

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.documents import JobId, Page
from api.problems import ApiProblem, declared, not_found
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
        206: {"content": {"application/octet-stream": {}}, "description": "The rest of it"},
        **declared(403, 404, 416, 422, 503),
    },
)
def download(
    token: str,
    context: RequestContext,
    range_: Annotated[str | None, Header(alias="Range")] = None,
) -> StreamingResponse:
    """A result file, by a link that `results` or an export gave. No key is needed. `Range:
    bytes=N-` goes on where a download broke off; other ranges are answered with the whole."""
    name = verify(token, secret=context.settings.signing_secret.get_secret_value())
    key = results_root(name.job_id) + name.key
    stack = ExitStack()
    try:
        file = stack.enter_context(context.store.open(key))
    except ObjectNotFound as error:
        raise not_found("file") from error
    size = file.seek(0, 2)
    start = _start(range_)
    if start and start >= size:
        stack.close()
        raise ApiProblem(416, "range_not_satisfiable", f"The file has {size} bytes.")
    file.seek(start)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(size - start),
        "Content-Disposition": f'attachment; filename="{key.rpartition("/")[2]}"',
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    if start:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    return StreamingResponse(
        _chunks(file, stack),
        status_code=206 if start else 200,
        media_type="application/octet-stream",
        headers=headers,
    )


def _start(range_: str | None) -> int:
    found = re.fullmatch(r"bytes=(\d{1,15})-", range_ or "")
    return int(found[1]) if found else 0


def _chunks(file: BinaryIO, stack: ExitStack) -> Iterator[bytes]:
    with stack:
        while chunk := file.read(2**18):
            yield chunk
