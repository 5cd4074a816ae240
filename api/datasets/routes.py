"""/v1/datasets"""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.datasets import service
from api.datasets.schemas import DatasetDocument, DatasetPage, DatasetRequest, UploadedFile
from api.documents import DatasetId, Page
from api.problems import ApiProblem, declared
from storage.datasets import Dataset
from storage.object_keys import dataset_file
from storage.object_store import ObjectForbidden

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=KeyFirst)


@router.post("", status_code=201, responses=declared(400, 413))
def create_dataset(
    request: DatasetRequest, context: RequestContext, caller: Caller
) -> DatasetDocument:
    """A name for images to be uploaded."""
    return service.create(context, caller, request.name)


@router.get("")
def list_datasets(context: RequestContext, caller: Caller, page: Page) -> DatasetPage:
    """Your datasets, oldest first."""
    return service.list_page(context, caller, page)


@router.get("/{dataset_id}", responses=declared(404))
def get_dataset(dataset_id: DatasetId, context: RequestContext, caller: Caller) -> DatasetDocument:
    return service.document(service.find(context, dataset_id, caller))


@router.delete("/{dataset_id}", status_code=204, responses=declared(404))
def delete_dataset(dataset_id: DatasetId, context: RequestContext, caller: Caller) -> None:
    """From now on nothing begins with it. Its files go soon, or once jobs and evaluations that have
    begun with it have ended; a linked folder keeps them. Results stay."""
    service.delete(context, dataset_id, caller)


def _target(
    dataset_id: DatasetId, path: str, context: RequestContext, caller: Caller
) -> tuple[str, Dataset]:
    """The object's key. Solved before the body is read."""
    dataset = service.find(context, dataset_id, caller)
    service.check_takes_uploads(dataset)
    return dataset_file(dataset.id, path), dataset


Target = Annotated[tuple[str, Dataset], Depends(_target)]


async def _body_file(request: Request, _target: Target) -> AsyncIterator[IO[bytes]]:
    """The body on disk, whatever its size; deleted after the request."""
    with tempfile.NamedTemporaryFile(prefix="maskmill-upload-") as file:
        async for chunk in request.stream():
            await run_in_threadpool(file.write, chunk)
        await run_in_threadpool(file.flush)
        yield file


@router.put(
    "/{dataset_id}/files/{path:path}",
    responses=declared(404, 409, 413),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"format": "binary"}}},
        }
    },
)
def upload_file(
    path: str,
    context: RequestContext,
    caller: Caller,
    target: Target,
    body: Annotated[IO[bytes], Depends(_body_file)],
) -> UploadedFile:
    """Store one file as it is. The same path again replaces it."""
    key, dataset = target
    size = Path(body.name).stat().st_size
    try:
        context.store.put_file(key, Path(body.name))
    except ObjectForbidden as error:  # a folder store cannot have both `a` and `a/b`
        raise ApiProblem(409, "path_conflict", "Another file's name is in the way.") from error
    service.keep_upload(context, dataset.id, caller, key=key)
    return UploadedFile(path=path, bytes=size)
