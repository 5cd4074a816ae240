"""What is shown of events, in pages and in streams."""

import re
from collections.abc import Collection, Sequence

from api.context import Context
from api.documents import PageRequest, cursor_of
from api.events.schemas import EventDocument, EventPage, ProgressDocument
from api.jobs.service import documents, find
from api.problems import ApiProblem
from storage.database import Database
from storage.events import START, Event, Position, Watch, events_after, events_of, watches_over
from storage.jobs import find_jobs
from storage.keys import ApiKey

_POSITION = re.compile(r"(\d{1,19})-(\d{1,19})")
_MAX_BIGINT = 2**63 - 1
_REMOVED = "The events were removed on {:%Y-%m-%d}, by this service's retention policy."


def page_of(context: Context, job_id: str, caller: ApiKey, *, page: PageRequest) -> EventPage:
    after = page.after(int, int)
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
        start = Position(*after) if after else START
        found = events_of(connection, job_id, after=start, limit=page.limit + 1)
    shown = found[: page.limit]
    return EventPage(
        data=[event_document(event) for event in shown],
        next_cursor=cursor_of(shown[-1].xid, shown[-1].id) if len(found) > page.limit else None,
        note=_REMOVED.format(job.cleaned_at) if job.cleaned_at else None,
    )


def event_document(event: Event) -> EventDocument:
    """Without what is the operator's: the worker's host, and the words of internal errors."""
    data = {name: value for name, value in event.data.items() if name != "owner"}
    if "last_error" in data:
        data["last_error"] = str(data["last_error"]).partition(":")[0]
    return EventDocument(
        id=event.id, at=event.at, kind=event.kind, shard_number=event.shard_number, data=data
    )


def event_id(event: Event) -> str:
    return f"{event.xid}-{event.id}"


def position_of(last_event_id: str | None) -> Position:
    """Where a stream goes on: after the event with this id."""
    if not last_event_id:
        return START
    found = _POSITION.fullmatch(last_event_id)
    numbers = [int(number) for number in found.groups()] if found else []
    if not numbers or max(numbers) > _MAX_BIGINT:
        raise ApiProblem(422, "invalid_cursor", "This Last-Event-ID is not one of ours.")
    return Position(*numbers)


def is_over(context: Context, job_id: str, caller: ApiKey, *, after: Position) -> bool:
    """Whether a stream would have nothing to send any more."""
    watch = Watch(job_id, after)
    with context.database.begin() as connection:
        find(connection, job_id, caller)
        return watch in watches_over(connection, [watch])


def read_events(
    database: Database, watches: Sequence[Watch], limit: int
) -> tuple[dict[Watch, list[Event]], set[Watch]]:
    """What is new to each watch, and those to whom nothing may or will come any more: a watch
    whose key was revoked is among them though there is news."""
    with database.begin() as connection:
        found = events_after(connection, watches, limit=limit)
        return found, watches_over(connection, watches)


def read_progress(database: Database, job_ids: Collection[str]) -> dict[str, ProgressDocument]:
    with database.begin() as connection:
        shown = documents(connection, find_jobs(connection, job_ids))
    return {job.id: ProgressDocument.model_validate(job, from_attributes=True) for job in shown}
