"""Reads what is committed: rows of PostgreSQL say which parts count, the store has them."""

from collections.abc import Iterator
from itertools import islice

from fastapi import Request

from api.context import Context
from api.documents import PageRequest, cursor_of
from api.jobs.service import PLANNED, find
from api.problems import ApiProblem
from api.results.links import ResultLinks
from api.results.schemas import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    CocoRle,
    FailedImage,
    FailedImagePage,
    ImageAnnotations,
    ImageError,
    LinkedFile,
    LinkedPart,
    ManifestLink,
    ResultPage,
)
from api.results.stored import stored_manifest, stored_part
from domain.errors import ImageErrorCode
from domain.lifecycle import TERMINAL_JOB
from domain.prompts import categories
from domain.result_manifest import ResultManifest
from domain.results import (
    ImageRow,
    InstanceRow,
    above_threshold,
    instances_of,
    iter_images,
)
from storage import object_keys
from storage.jobs import Job
from storage.keys import ApiKey
from storage.object_store import ObjectStore
from storage.progress import progress_of
from storage.results_store import results_store
from storage.slices import (
    Slice,
    committed_slices,
    item_categories,
    slice_of_image,
    slices_with_failures,
)

_SLICES_PER_REQUEST = 100  # parts opened at most for one page of errors


def list_parts(
    context: Context, job_id: str, caller: ApiKey, *, page: PageRequest, request: Request
) -> ResultPage:
    after = page.after(int, int)
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
        found = committed_slices(
            connection,
            job_id,
            after=(after[0], after[1]) if after else (-1, -1),
            limit=page.limit + 1,
        )
    links = ResultLinks(context, job, request=request)
    shown = found[: page.limit]
    more = cursor_of(shown[-1].shard_number, shown[-1].start) if len(found) > len(shown) else None
    return ResultPage(
        manifest=_manifest_link(job, links),
        data=[_linked_part(part, links) for part in shown],
        next_cursor=more,
    )


def _manifest_link(job: Job, links: ResultLinks) -> ManifestLink | None:
    if job.manifest_number == 0:
        return None
    key = object_keys.manifest(job.manifest_number)
    return ManifestLink(number=job.manifest_number, key=key, url=links.url(key))


def _linked_part(part: Slice, links: ResultLinks) -> LinkedPart:
    annotations, images = part.parts["annotations"], part.parts["images"]
    return LinkedPart(
        annotations=LinkedFile(**annotations, url=links.url(annotations["key"])),
        images=LinkedFile(**images, url=links.url(images["key"])),
        first_image_index=part.first_image_index,
        image_count=part.count,
    )


def read_manifest(context: Context, job_id: str, caller: ApiKey) -> ResultManifest:
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
    if job.manifest_number == 0:
        raise ApiProblem(404, "no_manifest_yet", "The manifest is written when the job ends.")
    store = results_store(job, settings=context.settings)
    return stored_manifest(store, job.manifest_number)


def list_errors(
    context: Context,
    job_id: str,
    caller: ApiKey,
    *,
    page: PageRequest,
    code: ImageErrorCode | None,
) -> FailedImagePage:
    """A page may be short although more follow, since only so many parts are read for one."""
    after = page.after(int)
    from_index = after[0] if after else 0
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
        slices = slices_with_failures(
            connection, job_id, from_index=from_index, limit=_SLICES_PER_REQUEST
        )
    store = results_store(job, settings=context.settings)
    rows = _failed_rows(slices, store, from_index=from_index, code=code)
    found = list(islice(rows, page.limit + 1))
    if len(found) > page.limit:
        following: int | None = found.pop().image_index
    elif len(slices) == _SLICES_PER_REQUEST:
        following = slices[-1].first_image_index + slices[-1].count
    else:
        following = None
    return FailedImagePage(
        data=[_failed_image(row) for row in found],
        next_cursor=None if following is None else cursor_of(following),
    )


def _failed_rows(
    slices: list[Slice], store: ObjectStore, *, from_index: int, code: ImageErrorCode | None
) -> Iterator[ImageRow]:
    for part in slices:
        with stored_part(store, part.parts["images"]) as file:
            for row in iter_images(file):
                wanted = row.error_code is not None and code in (None, row.error_code)
                if wanted and row.image_index >= from_index:
                    yield row


def _failed_image(row: ImageRow) -> FailedImage:
    assert row.error_code is not None
    return FailedImage(
        image_index=row.image_index,
        image=row.image,
        custom_id=row.custom_id,
        code=row.error_code,
        message=row.error_message or "",
    )


def image_annotations(
    context: Context, job_id: str, caller: ApiKey, *, image_index: int, min_score: float | None
) -> ImageAnnotations:
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
        part = slice_of_image(connection, job_id, image_index)
        total = progress_of(connection, [job_id])[job_id].total
        item_classes = item_categories(connection, job_id)
    if part is None:
        raise _no_outcome(job, image_index, total)
    store = results_store(job, settings=context.settings)
    with stored_part(store, part.parts["images"]) as file:
        row = next(row for row in iter_images(file) if row.image_index == image_index)
    with stored_part(store, part.parts["annotations"]) as file:
        instances = instances_of(file, image_index)
    shown = list(above_threshold(instances, min_score=min_score))
    names = categories(job.parsed_prompts(), item_classes)
    ids = {name: number for number, name in enumerate(names, start=1)}
    return ImageAnnotations(
        image=_coco_image(row),
        annotations=[_annotation(found, n, ids) for n, found in enumerate(shown, start=1)],
        categories=[CocoCategory(id=id_, name=name) for name, id_ in ids.items()],
    )


def _no_outcome(job: Job, image_index: int, total: int) -> ApiProblem:
    if job.status in TERMINAL_JOB or (job.status in PLANNED and image_index >= total):
        return ApiProblem(404, "image_not_found", "The job has no result for such an image.")
    return ApiProblem(409, "not_labelled_yet", "The job has not come to this image yet.")


def _coco_image(row: ImageRow) -> CocoImage:
    error = None
    if row.error_code is not None:
        error = ImageError(code=row.error_code, message=row.error_message or "")
    return CocoImage(
        id=row.image_index + 1,
        file_name=row.image,
        width=row.width,
        height=row.height,
        image_index=row.image_index,
        custom_id=row.custom_id,
        error=error,
    )


def _annotation(row: InstanceRow, number: int, category_ids: dict[str, int]) -> CocoAnnotation:
    return CocoAnnotation(
        id=number,
        image_id=row.image_index + 1,
        category_id=category_ids[row.category],
        segmentation=CocoRle(size=row.mask.size, counts=row.mask.counts.decode("ascii")),
        area=row.area,
        bbox=row.box,
        iscrowd=0,
        score=round(row.score, 6),
        prompt_index=row.prompt_index,
    )
