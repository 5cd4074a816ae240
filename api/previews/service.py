"""A look at some of a job's images before all of them are labelled."""

from fastapi import Request
from sqlalchemy import Connection

from api.context import Context
from api.exports.asking import ask, digest, linked_files
from api.jobs.service import find
from api.previews.schemas import (
    PreviewDocument,
    PreviewLinks,
    PreviewProgress,
    PreviewRequest,
)
from api.problems import ApiProblem, not_found
from api.results.links import ResultLinks
from domain.lifecycle import ExportStatus, ResultUse
from storage import exports as stored_exports
from storage.exports import SAMPLE, Export, NewExport
from storage.holds import ask_for_sample
from storage.jobs import Job
from storage.keys import ApiKey
from storage.progress import sample_progress
from storage.tracing import current_traceparent


def create(
    context: Context, job_id: str, caller: ApiKey, request: PreviewRequest
) -> tuple[PreviewDocument, bool]:
    """The preview, and whether it is new."""
    options = request.model_dump()
    with context.database.begin() as connection:
        find(connection, job_id, caller)
        if not ask_for_sample(connection, job_id, images=request.images):
            _check_same(find(connection, job_id, caller), request)
        new = NewExport(
            job_id=job_id,
            owner_key_id=caller.id,
            options=options,
            options_sha256=digest(options),
            result=SAMPLE,
            kind=ResultUse.PREVIEW,
            traceparent=current_traceparent(),
        )
        export, is_new = ask(context, connection, caller, new)
        return _document(connection, find(connection, job_id, caller), export), is_new


def _check_same(job: Job, request: PreviewRequest) -> None:
    """A job has one sample, which is drawn before its other images are planned."""
    if job.sample_images is None:
        detail = "Only a job on hold is previewed: make it with `hold`."
        raise ApiProblem(409, "job_not_on_hold", detail)
    if job.sample_images != request.images:
        detail = f"The job has a preview of {job.sample_images} images already; make another job."
        raise ApiProblem(409, "already_previewed", detail)


def get(context: Context, job_id: str, caller: ApiKey, *, request: Request) -> PreviewDocument:
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
        found = stored_exports.list_exports(
            connection, job_id, before=None, limit=1, kind=ResultUse.PREVIEW
        )
        if not found:
            raise not_found("preview")
        document = _document(connection, job, found[0])
    files = linked_files(found[0], ResultLinks(context, job, request=request))
    return document.model_copy(update={"files": files})


def _document(connection: Connection, job: Job, export: Export) -> PreviewDocument:
    """Without its files."""
    own = f"/v1/jobs/{job.id}"
    waits = export.status is ExportStatus.QUEUED
    status = ExportStatus.RUNNING if waits and job.sample_shards is not None else export.status
    done, total = sample_progress(connection, job.id, shards_in_sample=job.sample_shards)
    return PreviewDocument.model_validate(
        {
            **{n: getattr(export, n) for n in PreviewDocument.model_fields if hasattr(export, n)},
            "status": status,
            "images": export.options["images"],
            "progress": PreviewProgress(
                images_done=done,
                images_total=total,
                source_images=(job.plan_cursor or {}).get("source_images"),
            ),
            "files": None,
            "links": PreviewLinks(self=f"{own}/preview", job=own, promote=f"{own}/promote"),
        }
    )
