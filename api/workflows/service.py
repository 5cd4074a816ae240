"""From a checked workflow to the lane's request: the bytes of its images travel apart."""

import asyncio

from fastapi import Response
from fastapi.concurrency import run_in_threadpool

from api.context import Context
from api.interactive.images import NOT_FETCHED, ImageRefused
from api.segment.service import answered
from api.workflows.schemas import WorkflowBody
from domain.interactive import WorkflowRequest
from domain.workflows import (
    ImageValue,
    Plan,
    compile_workflow,
    image_error,
    image_values,
    with_file_numbers,
)
from storage.keys import ApiKey

MAX_IMAGES = 256


async def run(context: Context, caller: ApiKey, body: WorkflowBody) -> Response:
    plan, images = await run_in_threadpool(_compiled, body)
    files = await _loaded(context, caller, images)
    asked = WorkflowRequest(
        specification=body.specification,
        inputs=with_file_numbers(plan, body.inputs, range(len(files))),
        excluded_fields=tuple(body.excluded_fields or ()),
    )
    return await answered(context, caller, asked, files=files)


def _compiled(body: WorkflowBody) -> tuple[Plan, tuple[ImageValue, ...]]:
    """In a thread: what is wrong with a long body takes long to find."""
    plan = compile_workflow(body.specification, body.inputs)
    return plan, image_values(plan, body.inputs)


async def _loaded(context: Context, caller: ApiKey, images: tuple[ImageValue, ...]) -> list[bytes]:
    """One after the other, so that a long list takes no more memory and time than one image may."""
    if len(images) > MAX_IMAGES:
        cause = f"A request may have {MAX_IMAGES} images."
        raise image_error(images[MAX_IMAGES].name, cause)
    files: list[bytes] = []
    budget_bytes = context.settings.max_request_bytes
    until = asyncio.get_running_loop().time() + context.settings.fetch_seconds
    for image in images:
        data = await _load(context, caller, image, until=until)
        budget_bytes -= len(data)
        if budget_bytes < 0:
            limit = context.settings.max_request_bytes
            raise image_error(image.name, f"All images may have {limit} bytes together.")
        files.append(data)
    return files


async def _load(context: Context, caller: ApiKey, image: ImageValue, *, until: float) -> bytes:
    kind = "url" if image.is_url else "base64"
    try:
        async with asyncio.timeout_at(until):
            return await context.images.load(kind, image.value, key_id=caller.id)
    except ImageRefused as error:
        raise image_error(image.name, error.cause) from error
    except TimeoutError as error:
        raise image_error(image.name, NOT_FETCHED) from error
