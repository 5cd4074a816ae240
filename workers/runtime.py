"""What a worker process holds: settings, connections, stores and the loaded network."""

import os
import socket
import threading
from dataclasses import dataclass, field
from functools import cache

from storage.database import Database
from storage.lane import WorkerLane
from storage.object_store import ObjectStore, open_store
from storage.settings import Settings, load_settings
from storage.sources import Sources
from workers.engines import Engines
from workers.metrics import WorkerMetrics


@dataclass(frozen=True)
class Runtime:
    """`owner` names this process in leases; `stopping` is set when it shall end soon."""

    settings: Settings
    database: Database
    objects: ObjectStore  # the service's own
    sources: Sources
    engines: Engines
    lane: WorkerLane
    owner: str
    exporting: threading.BoundedSemaphore  # so many exports at a time
    stopping: threading.Event = field(default_factory=threading.Event)
    metrics: WorkerMetrics = field(default_factory=WorkerMetrics)


def build_runtime(settings: Settings) -> Runtime:
    database = Database(settings.database_url.get_secret_value())
    owner = f"{socket.gethostname()}:{os.getpid()}"
    return Runtime(
        settings=settings,
        database=database,
        objects=open_store(settings.object_store, settings=settings),
        sources=Sources.from_settings(settings),
        engines=Engines(settings, database),
        lane=WorkerLane(settings, name=owner),
        owner=owner,
        exporting=threading.BoundedSemaphore(settings.exports_at_once),
    )


@cache
def runtime() -> Runtime:
    """The process's own, made when the first task or the warm-up needs it."""
    return build_runtime(load_settings())
