"""Jobs whose links would end before they do are refused, with the estimate."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from domain.documents import NewItem
from domain.errors import InvalidRequest
from domain.links import expiry_of
from storage.jobs import Job
from storage.outlook import Outlook, outlook_of
from workers.planning_sources import Cursor
from workers.runtime import Runtime

ASSUMED_IMAGES_PER_SECOND = 5.0  # where no job has run with this model in the last day
_LOOK_SECONDS = 15.0
_LONGEST_SECONDS = 100 * 365 * 86400.0  # a date can be made of it
_WAY_OUT = "sign them for longer, or accept this with accept_expiring_links"


def earliest_end(known: float | None, items: Iterable[NewItem]) -> float | None:
    """Unix time at which the first of the links ends; `known` is that of the items before."""
    ends = (expiry.timestamp() for item in items if (expiry := expiry_of(item.uri)))
    return min((end for end in (known, *ends) if end is not None), default=None)


class LinkCheck:
    """Of one job while it is planned. Raises `InvalidRequest`, links_expire."""

    def __init__(self, runtime: Runtime, job: Job) -> None:
        self._runtime = runtime
        self._job = job
        self._due = 0.0

    def look(self, planned: Cursor) -> None:
        """Now and then while planning goes on: what is hopeless already gets no better."""
        if planned.links_end is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _LOOK_SECONDS
        self.check(planned)

    def check(self, planned: Cursor) -> None:
        if planned.links_end is None or self._job.accept_expiring_links:
            return
        with self._runtime.database.begin() as connection:
            outlook = outlook_of(connection, self._job.id, model=self._job.model)
        problem = _problem(outlook, planned.images, datetime.fromtimestamp(planned.links_end, UTC))
        if problem:
            raise InvalidRequest("links_expire", f"{problem}; {_WAY_OUT}")


def _problem(outlook: Outlook, images: int, ends: datetime) -> str | None:
    if ends <= outlook.now:
        return f"links in the manifest have expired, the first at {_clock(ends)}"
    rate = (outlook.per_second or ASSUMED_IMAGES_PER_SECOND) / outlook.keys
    left = images - outlook.done
    over = outlook.now + timedelta(seconds=min((left + outlook.ahead) / rate, _LONGEST_SECONDS))
    if over <= ends:
        return None
    origin = "measured over the last day" if outlook.per_second else "assumed: none ran lately"
    return (
        f"the first link expires at {_clock(ends)}, and the job would end at about {_clock(over)}: "
        f"{left:,} images and what goes before them, at {rate:.3g} images/s ({origin})"
    )


def _clock(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
