"""What may become a job, and how a job is shown."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy import Connection

from api.context import Context
from api.datasets import service as datasets
from api.documents import PageRequest, cursor_of
from api.jobs.schemas import (
    Counts,
    DatasetSource,
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
from storage.allowances import images_left_of, open_jobs_of
from storage.guarded_fetch import FetchRefused
from storage.jobs import Job, NewJob
from storage.keys import ApiKey
from storage.models import find_model
from storage.progress import Progress, progress_of
from storage.tracing import current_traceparent
from storage.webhook_urls import check_webhook_url

_LATER = {"Retry-After": "60"}
PLANNED = frozenset(JobStatus) - {JobStatus.QUEUED, JobStatus.PLANNING}


def create(
    context: Context, caller: ApiKey, request: JobRequest, *, idempotency_key: str | None
) -> tuple[JobDocument, bool]:
    """The job, and whether it is new. Everything is checked before anything is written."""
    model = allowed_model(context, request.model)
    _check_lists(context, request)
    _check_webhook(context, request.webhook_url)
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
        webhook_url=request.webhook_url,
        priority=request.priority,
        hold=request.hold,
        accept_expiring_links=request.accept_expiring_links,
        idempotency_key=idempotency_key,
        traceparent=current_traceparent(),
    )
    with context.database.begin() as connection:
        job, is_new = stored_jobs.create_job(connection, new)
        if job.request_sha256 != new.request_sha256:
            raise ApiProblem(
                409, "idempotency_conflict", "This Idempotency-Key came with another request."
            )
        if is_new:  # what a job that was made already began with may be gone by now
            if isinstance(request.source, DatasetSource):
                datasets.keep(connection, request.source.id, caller)
            _check_texts(connection, request.prompts, model)
            check_room(context, connection, caller)
        return documents(connection, [job])[0], is_new


def check_room(context: Context, connection: Connection, caller: ApiKey) -> None:
    """Called when the transaction has opened a job: others that do wait for its end, so that
    together they cannot open too many."""
    settings = context.settings
    if open_jobs_of(connection, caller.id) > settings.jobs_per_key:
        detail = f"This key has {settings.jobs_per_key} open jobs; wait until one has ended."
        raise ApiProblem(429, "too_many_jobs", detail, headers=_LATER)
    if images_left_of(connection, caller.id) >= settings.images_per_key:
        detail = f"Open jobs of this key have {settings.images_per_key:,} images left to do."
        raise ApiProblem(429, "too_many_images", detail, headers=_LATER)


def _digest(request: JobRequest) -> str:
    """Of the meaning, not the bytes: spaces and the order of fields do not matter."""
    canonical = json.dumps(request.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def allowed_model(context: Context, name: str | None) -> str:
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


def _check_webhook(context: Context, url: str | None) -> None:
    if url is None:
        return
    try:
        check_webhook_url(url, allowed_hosts=context.settings.allowed_hosts)
    except FetchRefused as error:
        raise ApiProblem(422, "webhook_refused", f"webhook_url: {error}.") from error


def _check_duplicates(prompts: Sequence[JobPromptDocument]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for index, prompt in enumerate(prompts):
        first = seen.setdefault((prompt.text, prompt.to_prompt().category), index)
        if first != index:
            raise ApiProblem(
                422, "duplicate_prompt", f"Prompt {index} has the text and class of {first}."
            )


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
        return documents(connection, [find(connection, job_id, caller)])[0]


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
        return JobPage(data=documents(connection, shown), next_cursor=more)


def documents(connection: Connection, jobs: Sequence[Job]) -> list[JobDocument]:
    progress = progress_of(connection, [job.id for job in jobs])
    return [_document(job, progress[job.id]) for job in jobs]


def _document(job: Job, progress: Progress) -> JobDocument:
    values = {name: getattr(job, name) for name in JobDocument.model_fields if hasattr(job, name)}
    left = progress.total - progress.succeeded - progress.failed - progress.canceled
    rate = progress.per_second if _is_at_work(job, left) else None
    eta_seconds = left / rate if rate and job.status is JobStatus.RUNNING else None
    return JobDocument.model_validate(
        {
            **values,
            "counts": Counts.model_validate(progress, from_attributes=True),
            "total_is_final": job.status in PLANNED,
            "instances": progress.instances,
            "rate": rate,
            "eta_seconds": eta_seconds,
            "links": _links(job.id),
        }
    )


def _is_at_work(job: Job, left: int) -> bool:
    """On images that have no outcome yet: not while a pause or a retry says nothing of a rate."""
    has_work = left > 0 or (job.status is JobStatus.PLANNING and job.held_at is None)
    return has_work and job.status not in TERMINAL_JOB and job.paused_at is None


def _links(job_id: str) -> JobLinks:
    own = f"/v1/jobs/{job_id}"
    others = (name for name in JobLinks.model_fields if name != "self")
    return JobLinks(self=own, **{name: f"{own}/{name}" for name in others})
