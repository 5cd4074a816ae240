"""/v1/system"""

from collections.abc import Mapping

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from api.auth import Caller, KeyFirst
from api.context import Context, RequestContext
from api.models.routes import document
from api.system.schemas import (
    Interactive,
    QueueDocument,
    ServedModel,
    SystemDocument,
    WaitingDocument,
    WorkerDocument,
)
from domain.lifecycle import OPEN_JOB
from domain.version import code_version
from storage.models import find_model
from storage.presence import Worker
from storage.watching import ModelQueue, Waiting, Watched, of_all_models

router = APIRouter(prefix="/v1/system", tags=["operations"], route_class=KeyFirst)


@router.get("")
async def get_system(context: RequestContext, caller: Caller) -> SystemDocument:
    """How the service stands: what waits, who works, and on what."""
    state, counts = await context.watched(), await context.lane_counts()
    return SystemDocument(
        version=code_version(),
        models=await run_in_threadpool(_models, context),
        queues=state and _queues(state, context.settings.models),
        workers=state and [_worker(one, is_named=caller.is_admin) for one in state.workers],
        jobs=state and _jobs(state),
        waiting_exports=state and _waiting(state.waiting_exports),
        running_exports=state and _waiting(state.running_exports),
        interactive=_interactive(counts),
    )


def _models(context: Context) -> list[ServedModel]:
    names = context.settings.models
    with context.database.begin() as connection:
        published = {name: find_model(connection, name) for name in names}
    return [
        ServedModel(
            **document(name, model, is_default=name == names[0]).model_dump(),
            loaded_at=model and model.published_at,
        )
        for name, model in published.items()
    ]


def _queues(state: Watched, models: list[str]) -> list[QueueDocument]:
    return [_queue(queue, state) for queue in of_all_models(state, models)]


def _queue(queue: ModelQueue, state: Watched) -> QueueDocument:
    values = {name: getattr(queue, name) for name in ModelQueue.__dataclass_fields__}
    return QueueDocument(**values, busy_workers=state.busy_workers.get(queue.model, 0))


def _worker(worker: Worker, *, is_named: bool) -> WorkerDocument:
    said = worker.presence
    return WorkerDocument(
        name=said.name if is_named else None,
        role=said.role,
        version=said.version,
        serves=list(said.serves),
        loaded=list(said.loaded),
        device=said.device,
        memory_used_bytes=said.memory.used_bytes,
        memory_total_bytes=said.memory.total_bytes,
        is_busy=None if said.role == "interactive" else worker.is_busy,
        started_at=worker.started_at,
        seen_at=worker.seen_at,
    )


def _waiting(waiting: Waiting) -> WaitingDocument:
    return WaitingDocument.model_validate(waiting, from_attributes=True)


def _jobs(state: Watched) -> dict[str, int]:
    by_status = {str(status): state.jobs.get(status, 0) for status in sorted(OPEN_JOB)}
    return by_status | {"paused": state.paused_jobs}


def _interactive(counts: Mapping[str, int] | None) -> Interactive | None:
    if counts is None:
        return None
    return Interactive(workers=counts["workers"], waiting=counts["waiting"])
