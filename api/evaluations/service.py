"""What a result may be compared with, and how the comparison is shown."""

from datetime import datetime
from typing import Any

from fastapi import Request
from sqlalchemy import Connection

from api.context import Context
from api.datasets import service as datasets
from api.documents import PageRequest
from api.evaluations.schemas import (
    DatasetTruth,
    EvaluationDocument,
    EvaluationPage,
    EvaluationRequest,
)
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
from api.exports.schemas import ExportLinks
from api.jobs.service import find
from api.problems import ApiProblem, not_found
from api.results.links import ResultLinks
from api.results.stored import stored_part
from domain.errors import InvalidRequest
from domain.lifecycle import ResultUse
from storage.database import database_time
from storage.exports import Export, NewExport
from storage.keys import ApiKey
from storage.object_store import ObjectStore
from storage.results_store import results_store
from storage.tracing import current_traceparent
from storage.truths import opened_truth, truth_place, truth_sha256

KIND = ResultUse.EVALUATION
_PAGE = "report.html"


def create(
    context: Context,
    job_id: str,
    caller: ApiKey,
    request: EvaluationRequest,
    *,
    idempotency_key: str | None,
) -> tuple[EvaluationDocument, bool]:
    """The evaluation, and whether it is new. The truth is known by its content."""
    options = request.model_dump(mode="json", exclude={"partial"})
    with context.database.begin() as connection:
        find(connection, job_id, caller)
        place = _truth_place(context, connection, caller, request)
    with opened_truth(place) as file:  # takes seconds: no connection waits for it
        sha256 = truth_sha256(file)
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
        _keep_truth(connection, caller, request)
        new = NewExport(
            job_id=job.id,
            owner_key_id=caller.id,
            options={**options, "truth_sha256": sha256},
            options_sha256=digest({**options, "truth": sha256}),
            result=result_of(connection, job, partial=request.partial),
            kind=KIND,
            idempotency_key=idempotency_key,
            traceparent=current_traceparent(),
        )
        export, is_new = ask(context, connection, caller, new)
        return _document(export, database_time(connection)), is_new


def _truth_place(
    context: Context, connection: Connection, caller: ApiKey, request: EvaluationRequest
) -> tuple[ObjectStore, str]:
    _keep_truth(connection, caller, request)
    truth = request.truth.model_dump()
    try:
        return truth_place(connection, truth, own=context.store, sources=context.sources)
    except InvalidRequest as error:
        raise ApiProblem(403, error.code, error.message) from error


def _keep_truth(connection: Connection, caller: ApiKey, request: EvaluationRequest) -> None:
    if isinstance(request.truth, DatasetTruth):
        datasets.keep(connection, request.truth.id, caller)


def get(
    context: Context, job_id: str, evaluation_id: str, caller: ApiKey, *, request: Request
) -> EvaluationDocument:
    with context.database.begin() as connection:
        job, export = find_made(connection, job_id, evaluation_id, caller, kind=KIND)
        now = database_time(connection)
    files = linked_files(export, ResultLinks(context, job, request=request))
    return _document(export, now, report=export.report).model_copy(update={"files": files})


def report_page(context: Context, job_id: str, evaluation_id: str, caller: ApiKey) -> bytes:
    with context.database.begin() as connection:
        job, export = find_made(connection, job_id, evaluation_id, caller, kind=KIND)
    written = next((file for file in export.files or () if file["name"] == _PAGE), None)
    if written is None:
        raise not_found("report")
    with stored_part(results_store(job, settings=context.settings), written) as file:
        return file.read()


def list_page(context: Context, job_id: str, caller: ApiKey, page: PageRequest) -> EvaluationPage:
    with context.database.begin() as connection:
        shown, more = list_made(connection, job_id, caller, page, kind=KIND)
        now = database_time(connection)
    return EvaluationPage(data=[_document(made, now) for made in shown], next_cursor=more)


def cancel(context: Context, job_id: str, evaluation_id: str, caller: ApiKey) -> EvaluationDocument:
    with context.database.begin() as connection:
        canceled = cancel_made(connection, job_id, evaluation_id, caller, kind=KIND)
        return _document(canceled, database_time(connection))


def _document(
    export: Export, now: datetime, *, report: dict[str, Any] | None = None
) -> EvaluationDocument:
    """Without its files."""
    own = f"/v1/jobs/{export.job_id}/evaluations/{export.id}"
    asked = dict(export.options)
    return EvaluationDocument.model_validate(
        {
            **made_values(export, now),
            "truth": asked.pop("truth"),
            "truth_sha256": asked.pop("truth_sha256"),
            "options": asked,
            "report": report,
            "links": ExportLinks(self=own, job=f"/v1/jobs/{export.job_id}", cancel=f"{own}/cancel"),
        }
    )
