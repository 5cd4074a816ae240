"""What may become an export, and how an export is shown."""

from datetime import datetime

from fastapi import Request
from sqlalchemy import Connection

from api.context import Context
from api.documents import PageRequest
from api.exports.asking import (
    ask,
    cancel_made,
    digest,
    find_made,
    linked_files,
    list_made,
    made_values,
    result_of,
)
from api.exports.schemas import (
    ExportDocument,
    ExportLinks,
    ExportPage,
    ExportRequest,
)
from api.jobs.service import find
from api.problems import ApiProblem
from api.results.links import ResultLinks
from domain.exports import ExportOptions
from domain.lifecycle import ResultUse
from domain.prompts import categories
from domain.view import unknown_classes
from storage.database import database_time
from storage.exports import Export, NewExport
from storage.jobs import Job
from storage.keys import ApiKey
from storage.slices import item_categories
from storage.tracing import current_traceparent

KIND = ResultUse.EXPORT
_MOST_NAMED = 10


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
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
        _check_classes(connection, job, options)
        chosen = options.model_dump(mode="json")
        new = NewExport(
            job_id=job.id,
            owner_key_id=caller.id,
            options=chosen,
            options_sha256=digest(chosen),
            result=result_of(connection, job, partial=request.partial),
            idempotency_key=idempotency_key,
            traceparent=current_traceparent(),
        )
        export, is_new = ask(context, connection, caller, new)
        return _document(export, database_time(connection)), is_new


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


def get(
    context: Context, job_id: str, export_id: str, caller: ApiKey, *, request: Request
) -> ExportDocument:
    with context.database.begin() as connection:
        job, export = find_made(connection, job_id, export_id, caller, kind=KIND)
        now = database_time(connection)
    files = linked_files(export, ResultLinks(context, job, request=request))
    return _document(export, now).model_copy(update={"files": files})


def list_page(context: Context, job_id: str, caller: ApiKey, page: PageRequest) -> ExportPage:
    with context.database.begin() as connection:
        shown, more = list_made(connection, job_id, caller, page, kind=KIND)
        now = database_time(connection)
    return ExportPage(data=[_document(made, now) for made in shown], next_cursor=more)


def cancel(context: Context, job_id: str, export_id: str, caller: ApiKey) -> ExportDocument:
    with context.database.begin() as connection:
        canceled = cancel_made(connection, job_id, export_id, caller, kind=KIND)
        return _document(canceled, database_time(connection))


def _document(export: Export, now: datetime) -> ExportDocument:
    """Without its files."""
    own = f"/v1/jobs/{export.job_id}/exports/{export.id}"
    links = ExportLinks(self=own, job=f"/v1/jobs/{export.job_id}", cancel=f"{own}/cancel")
    return ExportDocument.model_validate(
        {
            **made_values(export, now),
            "options": export.options,
            "report": export.report,
            "links": links,
        }
    )
