"""What every request works with, opened once per process."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.checks import RecentChecks
from api.interactive.images import ImageLoader
from storage.database import Database
from storage.lane import FrontLane
from storage.object_store import ObjectStore
from storage.settings import Settings
from storage.sources import Sources


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    database: Database
    store: ObjectStore
    sources: Sources
    checks: RecentChecks
    lane: FrontLane
    images: ImageLoader
    server_id: str  # of this process


def _context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


RequestContext = Annotated[Context, Depends(_context_of)]
