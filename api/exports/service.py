"""What may become an export, and how an export is shown."""

import hashlib
import json

from fastapi import Request
from sqlalchemy import Connection

from api.context import Context
from api.documents import PageRequest, cursor_of
from api.exports.schemas import (
    ExportDocument,
    ExportFile,
    ExportLinks,
    ExportPage,
    ExportProgress,
    ExportRequest,
)
from api.jobs.service import find
from api.problems import ApiProblem, not_found
from api.results.links import ResultLinks
from domain.exports import ExportOptions
from domain.lifecycle import TERMINAL_JOB, ExportStatus
from domain.prompts import categories
from domain.view import unknown_classes
from storage import exports as stored_exports
from storage.allowances import open_exports_of
from storage.exports import Export, NewExport
from storage.jobs import Job
from storage.keys import ApiKey
from storage.slices import item_categories, result_grew_at
from storage.tracing import current_traceparent

_LATER = {"Retry-After": "60"}
_MOST_NAMED = 10
_MOST_BYTES = 131_072


def create(
    context: Context,
    job_id: str,
    caller: ApiKey,
    request: ExportRequest,
    *,
    idempotency_key: str | None,
) -> tuple[ExportDocument, bool]:
    """The export, and whether it is new."""
    options = ExportOptions.model_validate(request.model_dump(exclude={"partial"}))
    canonical = _canonical(options)
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
        _check_classes(connection, job, options)
        new = NewExport(
            job_id=job.id,
            owner_key_id=caller.id,
            options=options.model_dump(mode="json"),
            options_sha256=hashlib.sha256(canonical).hexdigest(),
            result=_result(connection, job, partial=request.partial),
            idempotency_key=idempotency_key,
            traceparent=current_traceparent(),
        )
        export, is_new = stored_exports.create_export(connection, new)
        if export.options_sha256 != new.options_sha256:
            raise ApiProblem(
                409, "idempotency_conflict", "This Idempotency-Key came with another request."
            )
        if is_new:
            _check_room(context, connection, caller)
        return _document(export), is_new


def _canonical(options: ExportOptions) -> bytes:
    """The meaning, not the bytes: the order of fields does not matter."""
    canonical = json.dumps(options.model_dump(mode="json"), sort_keys=True).encode()
    if len(canonical) > _MOST_BYTES:  # lists of exports show them all
        detail = f"The options of an export may have {_MOST_BYTES:,} bytes."
        raise ApiProblem(413, "request_too_large", detail)
    return canonical


def _result(connection: Connection, job: Job, *, partial: bool) -> str:
    """Which result: that of a job which has ended is whole, whatever was asked for."""
    if job.status in TERMINAL_JOB:
        if job.manifest_number == 0:
            raise ApiProblem(409, "job_failed", "The job failed before it left a result.")
        return stored_exports.whole_result(job.manifest_number)
    if not partial:
        detail = "The job still runs: wait until it has ended, or ask with `partial`."
        raise ApiProblem(409, "job_not_ended", detail)
    grew_at = result_grew_at(connection, job.id)
    if grew_at is None:
        raise ApiProblem(409, "not_labelled_yet", "The job has not labelled any image yet.")
    return stored_exports.partial_result(grew_at)


def _check_classes(connection: Connection, job: Job, options: ExportOptions) -> None:
    known = categories(job.parsed_prompts(), item_categories(connection, job.id))
    unknown = unknown_classes(options, known)
    if unknown:
        detail = f"The job has no class {_named(unknown)}; it has {_named(known)}."
        raise ApiProblem(422, "unknown_class", detail)


def _named(names: list[str]) -> str:
    shown = ", ".join(repr(name[:100]) for name in names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown or "none"


def _check_room(context: Context, connection: Connection, caller: ApiKey) -> None:
    """As api.jobs.service.check_room."""
    most = context.settings.exports_per_key
    if open_exports_of(connection, caller.id) > most:
        detail = f"This key has {most} open exports; wait until one has ended."
        raise ApiProblem(429, "too_many_exports", detail, headers=_LATER)


def _find(
    connection: Connection, job_id: str, export_id: str, caller: ApiKey
) -> tuple[Job, Export]:
    job = find(connection, job_id, caller)
    export = stored_exports.find_export(connection, job_id, export_id)
    if export is None:
        raise not_found("export")
    return job, export


def get(
    context: Context, job_id: str, export_id: str, caller: ApiKey, *, request: Request
) -> ExportDocument:
    with context.database.begin() as connection:
        job, export = _find(connection, job_id, export_id, caller)
    links = ResultLinks(context, job, request=request)
    files = None if export.files is None else [_file(file, links) for file in export.files]
    return _document(export).model_copy(update={"files": files})


def _file(file: dict[str, str], links: ResultLinks) -> ExportFile:
    return ExportFile.model_validate({**file, "url": links.url(file["key"])})


def list_page(context: Context, job_id: str, caller: ApiKey, page: PageRequest) -> ExportPage:
    before = page.after(str)
    with context.database.begin() as connection:
        find(connection, job_id, caller)
        found = stored_exports.list_exports(
            connection, job_id, before=before[0] if before else None, limit=page.limit + 1
        )
    shown = found[: page.limit]
    more = cursor_of(shown[-1].id) if len(found) > page.limit else None
    return ExportPage(data=[_document(export) for export in shown], next_cursor=more)


def cancel(context: Context, job_id: str, export_id: str, caller: ApiKey) -> ExportDocument:
    with context.database.begin() as connection:
        _find(connection, job_id, export_id, caller)
        stored_exports.request_cancel(connection, export_id)
        _, export = _find(connection, job_id, export_id, caller)
        if export.status in (ExportStatus.SUCCEEDED, ExportStatus.FAILED):
            detail = f"The export has {export.status} already."
            raise ApiProblem(409, "export_already_ended", detail)
        return _document(export)


def delete(context: Context, job_id: str, export_id: str, caller: ApiKey) -> None:
    with context.database.begin() as connection:
        _find(connection, job_id, export_id, caller)
        stored_exports.delete_export(connection, export_id, why="asked")


def _document(export: Export) -> ExportDocument:
    """Without its files."""
    own = f"/v1/jobs/{export.job_id}/exports/{export.id}"
    shown = {n: getattr(export, n) for n in ExportDocument.model_fields if hasattr(export, n)}
    progress = ExportProgress.model_validate(export, from_attributes=True)
    links = ExportLinks(self=own, job=f"/v1/jobs/{export.job_id}", cancel=f"{own}/cancel")
    is_partial = stored_exports.manifest_of(export.result) is None
    return ExportDocument.model_validate(
        {**shown, "files": None, "partial": is_partial, "progress": progress, "links": links}
    )
