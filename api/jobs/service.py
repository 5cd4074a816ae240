"""What may become a job, and how a job is shown."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy import Connection

from api.context import Context
from api.documents import PageRequest, cursor_of
from api.jobs.schemas import (
    Counts,
    DatasetSource,
    EventDocument,
    EventPage,
    JobDocument,
    JobLinks,
    JobPage,
    JobRequest,
)
from api.problems import ApiProblem, not_found
from domain.documents import JobPromptDocument
from domain.errors import InvalidRequest
from domain.lifecycle import TERMINAL_JOB, JobStatus
from domain.prompts import TokenCounter, check_text_lengths
from domain.tokens import token_counter
from storage import jobs as stored_jobs
from storage.datasets import find_dataset
from storage.events import Event, events_of
from storage.jobs import Job, NewJob, Progress
from storage.keys import ApiKey
from storage.models import find_model

PLANNED = frozenset(JobStatus) - {JobStatus.QUEUED, JobStatus.PLANNING}


def create(
    context: Context, caller: ApiKey, request: JobRequest, *, idempotency_key: str | None
) -> tuple[JobDocument, bool]:
    """The job, and whether it is new. Everything is checked before anything is written."""
    model = _allowed_model(context, request.model)
    _check_lists(context, request)
    _check_duplicates(request.prompts)
    new = NewJob(
        owner_key_id=caller.id,
        model=model,
        floor=request.floor,
        prompts=[prompt.model_dump(exclude_none=True) for prompt in request.prompts],
        source=request.source.model_dump(exclude_none=True),
        request_sha256=_digest(request),
        output=request.output,
        name=request.name,
        priority=request.priority,
        idempotency_key=idempotency_key,
    )
    with context.database.begin() as connection:
        _check_dataset(connection, request, caller)
        _check_texts(connection, request.prompts, model)
        job, is_new = stored_jobs.create_job(connection, new)
        if job.request_sha256 != new.request_sha256:
            raise ApiProblem(
                409, "idempotency_conflict", "This Idempotency-Key came with another request."
            )
        return _documents(connection, [job])[0], is_new


def _digest(request: JobRequest) -> str:
    """Of the meaning, not the bytes: spaces and the order of fields do not matter."""
    canonical = json.dumps(request.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _allowed_model(context: Context, name: str | None) -> str:
    allowed = context.settings.models
    if name is None:
        return allowed[0]
    if name not in allowed:
        raise ApiProblem(
            422, "unknown_model", f"This service runs {', '.join(allowed)}; not {name[:100]!r}."
        )
    return name


def _check_lists(context: Context, request: JobRequest) -> None:
    """The operator's lists decide what jobs read and write."""
    try:
        if not isinstance(request.source, DatasetSource):
            context.sources.check_source(request.source.uri)
        if request.output is not None:
            context.sources.check_output(request.output)
    except InvalidRequest as error:
        raise ApiProblem(403, error.code, error.message) from error


def _check_duplicates(prompts: Sequence[JobPromptDocument]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for index, prompt in enumerate(prompts):
        first = seen.setdefault((prompt.text, prompt.to_prompt().category), index)
        if first != index:
            raise ApiProblem(
                422, "duplicate_prompt", f"Prompt {index} has the text and class of {first}."
            )


def _check_dataset(connection: Connection, request: JobRequest, caller: ApiKey) -> None:
    if not isinstance(request.source, DatasetSource):
        return
    if find_dataset(connection, request.source.id, owner_key_id=caller.id) is None:
        raise ApiProblem(422, "dataset_not_found", "There is no such dataset, or it is not yours.")


def _check_texts(
    connection: Connection, prompts: Sequence[JobPromptDocument], model_name: str
) -> None:
    """Only where a worker has said what the model can take; the workers check them all."""
    model = find_model(connection, model_name)
    if model is not None:
        counter = _token_counter(model.tokenizer_json)
        check_text_lengths([p.to_prompt() for p in prompts], model.limits, counter)


@lru_cache(maxsize=8)
def _token_counter(tokenizer_json: str) -> TokenCounter:
    return token_counter(tokenizer_json)


def find(connection: Connection, job_id: str, caller: ApiKey) -> Job:
    job = stored_jobs.find_job(connection, job_id, owner_key_id=caller.id)
    if job is None:
        raise not_found("job")
    return job


def get(context: Context, job_id: str, caller: ApiKey) -> JobDocument:
    with context.database.begin() as connection:
        return _documents(connection, [find(connection, job_id, caller)])[0]


def list_page(
    context: Context, caller: ApiKey, page: PageRequest, *, status: JobStatus | None
) -> JobPage:
    before = page.after(str)
    with context.database.begin() as connection:
        jobs = stored_jobs.list_jobs(
            connection,
            caller.id,
            before=before[0] if before else None,
            limit=page.limit + 1,
            status=status,
        )
        shown = jobs[: page.limit]
        more = cursor_of(shown[-1].id) if len(jobs) > page.limit else None
        return JobPage(data=_documents(connection, shown), next_cursor=more)


def cancel(context: Context, job_id: str, caller: ApiKey) -> JobDocument:
    with context.database.begin() as connection:
        find(connection, job_id, caller)
        stored_jobs.request_cancel(connection, job_id)
        job = find(connection, job_id, caller)
        if job.cancel_requested_at is None or job.status in TERMINAL_JOB - {JobStatus.CANCELED}:
            raise ApiProblem(409, "job_already_ended", f"The job has {job.status} already.")
        return _documents(connection, [job])[0]


def events(context: Context, job_id: str, caller: ApiKey, *, page: PageRequest) -> EventPage:
    after = page.after(int)
    with context.database.begin() as connection:
        find(connection, job_id, caller)
        found = events_of(connection, job_id, after=after[0] if after else 0, limit=page.limit + 1)
    shown = found[: page.limit]
    return EventPage(
        data=[_event_document(event) for event in shown],
        next_cursor=cursor_of(shown[-1].id) if len(found) > page.limit else None,
    )


def _event_document(event: Event) -> EventDocument:
    """Without what is the operator's: the worker's host, and the words of internal errors."""
    data = {name: value for name, value in event.data.items() if name != "owner"}
    if "last_error" in data:
        data["last_error"] = str(data["last_error"]).partition(":")[0]
    return EventDocument(
        id=event.id, at=event.at, kind=event.kind, shard_number=event.shard_number, data=data
    )


def _documents(connection: Connection, jobs: Sequence[Job]) -> list[JobDocument]:
    progress = stored_jobs.progress_of(connection, [job.id for job in jobs])
    return [_document(job, progress[job.id]) for job in jobs]


def _document(job: Job, progress: Progress) -> JobDocument:
    values = {name: getattr(job, name) for name in JobDocument.model_fields if hasattr(job, name)}
    is_open = job.status not in TERMINAL_JOB
    return JobDocument.model_validate(
        {
            **values,
            "counts": Counts.model_validate(progress, from_attributes=True),
            "total_is_final": job.status in PLANNED,
            "instances": progress.instances,
            "rate": progress.per_second if is_open else None,
            "eta_seconds": _eta_seconds(progress) if job.status == JobStatus.RUNNING else None,
            "links": _links(job.id),
        }
    )


def _eta_seconds(progress: Progress) -> float | None:
    done = progress.succeeded + progress.failed + progress.canceled
    return (progress.total - done) / progress.per_second if progress.per_second else None


def _links(job_id: str) -> JobLinks:
    own = f"/v1/jobs/{job_id}"
    names = ("events", "errors", "results", "manifest", "cancel")
    return JobLinks(self=own, **{name: f"{own}/{name}" for name in names})
