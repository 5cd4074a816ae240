"""Webhook calls: written with the event that they tell of, claimed by one sender at a time.

A claim counts the attempt and moves `next_attempt_at` past the time that sending may take, so
that a sender's death repeats the call and no two senders make it at the same time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    tuple_,
    update,
)

from domain.ids import new_id
from domain.webhooks import pause_seconds
from storage.progress import progress_of
from storage.tables import deliveries, jobs

SENDING = "sending"  # in `last_error`, from the claim until it is known how sending went
_PASSING = ("job.paused", "job.resumed")  # a newer one takes the place of those not sent yet
_JITTER = 0.2  # of a pause, either way


@dataclass(frozen=True, slots=True)
class Delivery:
    """As the log has it. `last_error` is the kind of a failure that brought no status."""

    id: str
    kind: str
    attempts: int
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt at a delivery. `host` is the address's, with its port where it names one."""

    id: str
    attempts: int
    payload: dict[str, Any]
    url: str
    host: str
    key_id: str
    claimed_at_seconds: int  # Unix time


_COLUMNS = tuple(deliveries.c[name] for name in Delivery.__dataclass_fields__)
_EARLIER = deliveries.alias()


def announce(
    connection: Connection, job_id: str, *, kind: str, about: Mapping[str, Any] | None = None
) -> None:
    """Have the job's webhook, if it has one, told of its state in this transaction; `about` is
    what the event says besides."""
    query = select(jobs.c.name, jobs.c.status, func.now()).where(
        jobs.c.id == job_id, jobs.c.webhook_url.is_not(None)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return
    if kind in _PASSING:
        _delete_unsent(connection, job_id)
    name, status, now = row
    payload = {
        "type": kind,
        "timestamp": now.isoformat(),
        "data": {
            "id": job_id,
            "name": name,
            "status": status,
            "counts": _counts(connection, job_id),
            "links": _links(job_id),
            **(about or {}),
        },
    }
    values = {"id": new_id("msg"), "job_id": job_id, "kind": kind, "payload": payload}
    connection.execute(insert(deliveries).values(**values, next_attempt_at=func.now()))


def _delete_unsent(connection: Connection, job_id: str) -> None:
    """Of the kinds that a caller may cause without end."""
    statement = delete(deliveries).where(
        deliveries.c.job_id == job_id,
        deliveries.c.kind.in_(_PASSING),
        deliveries.c.attempts == 0,
        deliveries.c.delivered_at.is_(None),
    )
    connection.execute(statement)


def _counts(connection: Connection, job_id: str) -> dict[str, int]:
    progress = progress_of(connection, [job_id])[job_id]
    names = ("total", "processing", "succeeded", "failed", "canceled")
    return {name: getattr(progress, name) for name in names}


def _links(job_id: str) -> dict[str, str]:
    own = f"/v1/jobs/{job_id}"
    return {"self": own, **{name: f"{own}/{name}" for name in ("events", "errors", "results")}}


_CLAIM = text("""
    WITH chosen AS (
        SELECT d.id, j.webhook_url, j.owner_key_id,
               substring(lower(j.webhook_url) FROM '^https?://([^/?#]*)') AS host
          FROM deliveries d JOIN jobs j ON j.id = d.job_id
         WHERE d.next_attempt_at <= now()
           AND j.owner_key_id <> ALL(:busy_keys)
           AND substring(lower(j.webhook_url) FROM '^https?://([^/?#]*)') <> ALL(:busy_hosts)
         ORDER BY d.next_attempt_at
         LIMIT 1
           FOR UPDATE OF d SKIP LOCKED
    )
    UPDATE deliveries d
       SET attempts = attempts + 1, last_status = NULL, last_error = :sending,
           next_attempt_at = now() + make_interval(secs => :seconds)
      FROM chosen
     WHERE d.id = chosen.id
    RETURNING d.id, d.attempts, d.payload, chosen.webhook_url, chosen.host, chosen.owner_key_id,
              CAST(extract(epoch FROM now()) AS bigint)
""")


def claim_delivery(
    connection: Connection, *, seconds: float, busy_hosts: Sequence[str], busy_keys: Sequence[str]
) -> Claim | None:
    """The delivery that is due longest, for a sender that is done with it within `seconds`."""
    values = {
        "seconds": seconds,
        "busy_hosts": list(busy_hosts),
        "busy_keys": list(busy_keys),
        "sending": SENDING,
    }
    row = connection.execute(_CLAIM, values).one_or_none()
    return Claim(*row) if row else None


def _held(claim: Claim) -> ColumnElement[bool]:
    return (deliveries.c.id == claim.id) & (deliveries.c.attempts == claim.attempts)


def record_delivered(connection: Connection, claim: Claim, *, status: int) -> None:
    values = {"delivered_at": func.now(), "next_attempt_at": None, "last_status": status}
    connection.execute(update(deliveries).where(_held(claim)).values(**values, last_error=None))


def record_failure(
    connection: Connection,
    claim: Claim,
    *,
    status: int | None = None,
    error: str | None = None,
    give_up: bool = False,
) -> None:
    """Put the next attempt off, or give up."""
    pause = None if give_up else pause_seconds(claim.attempts)
    values = {"last_status": status, "last_error": error, "next_attempt_at": _after(pause)}
    connection.execute(update(deliveries).where(_held(claim)).values(values))


def _after(pause_seconds: float | None) -> ColumnElement[datetime] | None:
    if pause_seconds is None:
        return None
    jittered = pause_seconds * (1 - _JITTER + 2 * _JITTER * func.random())
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, jittered)


def deliveries_of(
    connection: Connection, job_id: str, *, after: str | None, limit: int
) -> list[Delivery]:
    """Oldest first; `after` is the id of the last one of the page before."""
    place = tuple_(deliveries.c.created_at, deliveries.c.id)
    query = select(*_COLUMNS).where(deliveries.c.job_id == job_id)
    if after is not None:
        time = select(_EARLIER.c.created_at).where(_EARLIER.c.id == after).scalar_subquery()
        query = query.where(place > tuple_(time, literal(after)))
    rows = connection.execute(query.order_by(place).limit(limit))
    return [Delivery(*row) for row in rows]


def find_delivery(connection: Connection, job_id: str, delivery_id: str) -> Delivery | None:
    query = select(*_COLUMNS).where(deliveries.c.job_id == job_id, deliveries.c.id == delivery_id)
    row = connection.execute(query).one_or_none()
    return Delivery(*row) if row else None


def redeliver(connection: Connection, delivery_id: str) -> bool:
    """Send it now, with all attempts before it; False while an attempt is under way."""
    is_under_way = (deliveries.c.last_error == SENDING) & (
        deliveries.c.next_attempt_at > func.now()
    )
    statement = (
        update(deliveries)
        .where(deliveries.c.id == delivery_id, func.coalesce(~is_under_way, True))
        .values(attempts=0, delivered_at=None, next_attempt_at=func.now())
    )
    return connection.execute(statement).rowcount > 0
