"""What every request works with, opened once per process."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.checks import Check
from api.events.hub import Hub
from api.http_metrics import HttpMetrics
from api.images.pictures import Pictures
from api.images.ranking import Rankings
from api.interactive.images import ImageLoader
from api.recent import Recent
from api.request_limit import RequestLimit
from api.turns import Turns
from storage.database import Database
from storage.lane import FrontLane
from storage.object_store import ObjectStore
from storage.settings import Settings
from storage.sources import Sources
from storage.watching import Watched


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    database: Database
    store: ObjectStore
    sources: Sources
    checks: Recent[list[Check]]
    watched: Recent[Watched | None]  # None: the database was away
    lane_counts: Recent[Mapping[str, int] | None]  # None: the broker was away
    http_metrics: HttpMetrics
    request_limit: RequestLimit
    lane: FrontLane
    images: ImageLoader
    pictures: Pictures
    rankings: Rankings
    rank_turns: Turns
    hub: Hub
    server_id: str  # of this process


def _context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


RequestContext = Annotated[Context, Depends(_context_of)]
