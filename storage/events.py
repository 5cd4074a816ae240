"""What happened to a job, in order, written in the transaction that made it happen.

Ids are given out before a transaction ends, so a reader that remembers 11 could miss 10. Readers
get only what was written by transactions older than every one that still runs: nothing can come
before it any more, and `Position` is an order to go on from. A long transaction anywhere on the
database server holds new events back until it ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, text

from domain.lifecycle import TERMINAL_JOB
from domain.webhooks import ANNOUNCED
from storage.deliveries import announce
from storage.tables import events


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Of an event among all: its transaction's number, then its own."""

    xid: int
    id: int


START = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    xid: int
    shard_number: int | None
    kind: str
    data: dict[str, Any]
    at: datetime

    @property
    def position(self) -> Position:
        return Position(self.xid, self.id)


@dataclass(frozen=True, slots=True)
class Watch:
    """A reader of a job's events who has read up to `after`."""

    job_id: str
    after: Position


def record_event(
    connection: Connection,
    job_id: str,
    *,
    kind: str,
    shard_number: int | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """With the webhook call that this kind of event may want."""
    values = {"job_id": job_id, "shard_number": shard_number, "kind": kind, "data": data or {}}
    connection.execute(insert(events).values(values))
    if kind in ANNOUNCED:
        announce(connection, job_id, kind=kind, about=data or {})


_WATCHES = """
    unnest(CAST(:job_ids AS text[]), CAST(:xids AS bigint[]), CAST(:ids AS bigint[]))
    WITH ORDINALITY AS watch(job_id, xid, id, number)
"""

_EVENTS_AFTER = text(f"""
    SELECT watch.number, event.*
      FROM {_WATCHES}
     CROSS JOIN LATERAL (
           SELECT id, xid, shard_number, kind, data, at
             FROM events
            WHERE job_id = watch.job_id
              AND (xid, id) > (watch.xid, watch.id)
              AND xid < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)
            ORDER BY xid, id
            LIMIT :limit
           ) AS event
     ORDER BY watch.number, event.xid, event.id
""")  # noqa: S608  (nothing of it comes from outside)

_OVER = text(f"""
    SELECT watch.number
      FROM {_WATCHES}
      LEFT JOIN jobs ON jobs.id = watch.job_id
      LEFT JOIN api_keys ON api_keys.id = jobs.owner_key_id
     WHERE api_keys.id IS NULL
        OR api_keys.revoked_at IS NOT NULL
        OR jobs.status = ANY(:terminal)
           AND NOT EXISTS (
               SELECT FROM events
                WHERE job_id = watch.job_id AND (xid, id) > (watch.xid, watch.id)
               )
""")  # noqa: S608


def events_after(
    connection: Connection, watches: Sequence[Watch], *, limit: int
) -> dict[Watch, list[Event]]:
    """What is new to each, oldest first and at most `limit`, in one query."""
    found: dict[Watch, list[Event]] = {watch: [] for watch in watches}
    values = {**_arrays(watches), "limit": limit}
    for number, *columns in connection.execute(_EVENTS_AFTER, values):
        found[watches[number - 1]].append(Event(*columns))
    return found


def events_of(
    connection: Connection, job_id: str, *, after: Position = START, limit: int
) -> list[Event]:
    watch = Watch(job_id, after)
    return events_after(connection, [watch], limit=limit)[watch]


def watches_over(connection: Connection, watches: Sequence[Watch]) -> set[Watch]:
    """Those to whom nothing will come: the job has ended and they have read all of it, or it is
    gone, or its key was revoked."""
    values = {**_arrays(watches), "terminal": [str(status) for status in TERMINAL_JOB]}
    return {watches[number - 1] for (number,) in connection.execute(_OVER, values)}


def _arrays(watches: Sequence[Watch]) -> dict[str, list[Any]]:
    return {
        "job_ids": [watch.job_id for watch in watches],
        "xids": [watch.after.xid for watch in watches],
        "ids": [watch.after.id for watch in watches],
    }
