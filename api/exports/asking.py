"""What exports, evaluations and previews have in common: all are asked for once, and made later."""

import hashlib
import json
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from api.context import Context
from api.documents import PageRequest, cursor_of
from api.exports.schemas import ExportFile, ExportProgress, MadeDocument
from api.jobs.service import find
from api.problems import ApiProblem, not_found
from api.results.links import ResultLinks
from domain.lifecycle import TERMINAL_JOB, ExportStatus, ResultUse
from storage import exports as stored_exports
from storage.allowances import open_exports_of
from storage.exports import Export, NewExport
from storage.jobs import Job
from storage.keys import ApiKey
from storage.slices import committed_count, result_grew_at

_LATER = {"Retry-After": "60"}
_MOST_BYTES = 131_072
_ENDED = {
    ResultUse.EXPORT: "export_already_ended",
    ResultUse.EVALUATION: "evaluation_already_ended",
}


def digest(options: dict[str, Any]) -> str:
    """Of the meaning, not the bytes: the order of fields does not matter."""
    canonical = json.dumps(options, sort_keys=True).encode()
    if len(canonical) > _MOST_BYTES:  # lists show them all
        raise ApiProblem(413, "request_too_large", f"Options may have {_MOST_BYTES:,} bytes.")
    return hashlib.sha256(canonical).hexdigest()


def ask(
    context: Context, connection: Connection, caller: ApiKey, new: NewExport
) -> tuple[Export, bool]:
    """What is to be made, and whether it is new."""
    export, is_new = stored_exports.create_export(connection, new)
    if (export.kind, export.options_sha256) != (new.kind, new.options_sha256):
        raise ApiProblem(
            409, "idempotency_conflict", "This Idempotency-Key came with another request."
        )
    if is_new:
        _check_room(context, connection, caller)
    return export, is_new


def _check_room(context: Context, connection: Connection, caller: ApiKey) -> None:
    """As api.jobs.service.check_room."""
    most = context.settings.exports_per_key
    if open_exports_of(connection, caller.id) > most:
        detail = f"This key has {most} open exports; wait until one has ended."
        raise ApiProblem(429, "too_many_exports", detail, headers=_LATER)


def result_of(connection: Connection, job: Job, *, partial: bool) -> str:
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
    slice_count = committed_count(connection, job.id)
    return stored_exports.partial_result(grew_at, slice_count=slice_count)


def find_made(
    connection: Connection,
    job_id: str,
    export_id: str,
    caller: ApiKey,
    *,
    kind: ResultUse,
) -> tuple[Job, Export]:
    job = find(connection, job_id, caller)
    export = stored_exports.find_export(connection, job_id, export_id, kind=kind)
    if export is None:
        raise not_found(kind)
    return job, export


def list_made(
    connection: Connection, job_id: str, caller: ApiKey, page: PageRequest, *, kind: ResultUse
) -> tuple[list[Export], str | None]:
    """A page, and the cursor of the next one."""
    before = page.after(str)
    find(connection, job_id, caller)
    found = stored_exports.list_exports(
        connection, job_id, before=before[0] if before else None, limit=page.limit + 1, kind=kind
    )
    shown = found[: page.limit]
    return shown, cursor_of(shown[-1].id) if len(found) > page.limit else None


def delete_made(
    context: Context, job_id: str, export_id: str, caller: ApiKey, *, kind: ResultUse
) -> None:
    with context.database.begin() as connection:
        find_made(connection, job_id, export_id, caller, kind=kind)
        stored_exports.delete_export(connection, export_id, why="asked")


def cancel_made(
    connection: Connection, job_id: str, export_id: str, caller: ApiKey, *, kind: ResultUse
) -> Export:
    find_made(connection, job_id, export_id, caller, kind=kind)
    stored_exports.request_cancel(connection, export_id)
    _, export = find_made(connection, job_id, export_id, caller, kind=kind)
    if export.status in (ExportStatus.SUCCEEDED, ExportStatus.FAILED):
        detail = f"The {kind} has {export.status} already."
        raise ApiProblem(409, _ENDED[kind], detail)
    return export


def linked_files(export: Export, links: ResultLinks) -> list[ExportFile] | None:
    """None until it has succeeded."""
    if export.files is None:
        return None
    return [
        ExportFile.model_validate({**file, "url": links.url(file["key"])}) for file in export.files
    ]


def made_values(export: Export, now: datetime) -> dict[str, Any]:
    """Of a `MadeDocument`, without its files."""
    rate = _rate(export, now)
    shown = {n: getattr(export, n) for n in MadeDocument.model_fields if hasattr(export, n)}
    return {
        **shown,
        "files": None,
        "partial": stored_exports.manifest_of(export.result) is None,
        "progress": ExportProgress.model_validate(export, from_attributes=True),
        "rate": rate,
        "eta_seconds": _eta_seconds(export, rate),
    }


def _rate(export: Export, now: datetime) -> float | None:
    """Images per second, all passes together. None where nobody makes it: it waits, has ended, or
    its worker fell silent."""
    is_made = export.lease_expires_at is not None and export.lease_expires_at > now
    if not is_made or export.running_at is None:
        return None
    passes_before = max(export.pass_number - 1, 0)
    read = passes_before * (export.images_total or 0) + export.images_read
    return read / max((now - export.running_at).total_seconds(), 0.001) or None


def _eta_seconds(export: Export, rate: float | None) -> float | None:
    """What comes after the last image is not in it: the rest of a file, its way to the store."""
    if rate is None or export.images_total is None:
        return None
    return max(export.images_total - export.images_read, 0) / rate
