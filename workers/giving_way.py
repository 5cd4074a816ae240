"""Bulk work on a CPU steps back while somebody waits for single images."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from storage.lane import WorkerLane

if TYPE_CHECKING:
    from workers.engine.engine import Engine  # brings torch

log = structlog.get_logger()

LOOK_SECONDS = 1.0


@contextmanager
def giving_way(engine: "Engine", lane: WorkerLane) -> Iterator[None]:
    """Inside the block the engine uses one thread while requests come, and all of them else. One
    on another device needs few cores anyway."""
    if engine.device.type != "cpu":
        yield
        return
    done = threading.Event()
    thread = threading.Thread(
        target=copy_context().run,
        args=(_watch, engine, lane, done),
        name="giving-way",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        engine.use_threads(None)


def _watch(engine: "Engine", lane: WorkerLane, done: threading.Event) -> None:
    stepped_back = False
    while not done.wait(LOOK_SECONDS):
        clicks_come = _clicks_come(lane)
        if clicks_come != stepped_back:
            log.info("bulk.steps_back" if clicks_come else "bulk.goes_on")
            engine.use_threads(1 if clicks_come else None)
            stepped_back = clicks_come


def _clicks_come(lane: WorkerLane) -> bool:
    """None come through a broker that is away."""
    try:
        return lane.clicks_come()
    except RedisError:
        return False
