"""Doorbells, written in the transaction that wants them rung. Ringing twice changes nothing."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from storage.tables import outbox

CHANNEL = "maskmill_outbox"  # LISTEN on it to hear of new rows at once


class Tasks:
    """Names of the Celery tasks: all that the API and the workers know of each other."""

    PLAN_JOB = "maskmill.plan_job"
    RUN_SHARDS = "maskmill.run_shards"
    FINISH_JOB = "maskmill.finish_job"
    RUN_EXPORTS = "maskmill.run_exports"
    ANSWER = "maskmill.answer"  # never in the outbox: storage.lane rings for it


PLANNING_QUEUE = "planning"


def bulk_queue(model: str) -> str:
    """The Celery queue of a model's shards: a worker of another cannot swallow its bell."""
    return f"bulk:{model}"


@dataclass(frozen=True, slots=True)
class Bell:
    id: int
    task: str
    arguments: dict[str, Any]


def ring(connection: Connection, task: str, **arguments: Any) -> None:
    """Have `task` called with `arguments` (ids only) once this transaction is committed.

    RUN_SHARDS is called with `model`, and heard by workers that have it; RUN_EXPORTS with nothing.
    """
    connection.execute(insert(outbox).values(task=task, arguments=arguments))
    connection.execute(select(func.pg_notify(CHANNEL, "")))


def take_bells(connection: Connection, *, limit: int = 100) -> list[Bell]:
    """Remove and return the oldest bells that nobody else is ringing now."""
    oldest = (
        select(outbox.c.id).order_by(outbox.c.id).limit(limit).with_for_update(skip_locked=True)
    )
    taken = (
        delete(outbox)
        .where(outbox.c.id.in_(oldest))
        .returning(outbox.c.id, outbox.c.task, outbox.c.arguments)
    )
    return sorted((Bell(*row) for row in connection.execute(taken)), key=lambda bell: bell.id)
