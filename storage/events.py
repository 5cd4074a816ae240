"""What happened to a job, in order, written in the transaction that made it happen."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from storage.tables import events


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    shard_number: int | None
    kind: str
    data: dict[str, Any]
    at: datetime


def record_event(
    connection: Connection,
    job_id: str,
    *,
    kind: str,
    shard_number: int | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    values = {"job_id": job_id, "shard_number": shard_number, "kind": kind, "data": data or {}}
    connection.execute(insert(events).values(values))


def events_of(connection: Connection, job_id: str, *, after: int, limit: int) -> list[Event]:
    columns = (events.c.id, events.c.shard_number, events.c.kind, events.c.data, events.c.at)
    query = (
        select(*columns)
        .where(events.c.job_id == job_id, events.c.id > after)
        .order_by(events.c.id)
        .limit(limit)
    )
    return [Event(*row) for row in connection.execute(query)]
