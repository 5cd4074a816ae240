"""Renews a lease beside the work, so that a dead worker is told from a slow one, and ends a worker
that lives but gets nowhere."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context  # the log says whose lease it is
from dataclasses import dataclass
from typing import TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from domain.errors import LeaseLost

T = TypeVar("T")

LISTEN_SECONDS = 2.0

log = structlog.get_logger()


def end_process() -> None:
    """At once: a thread that hangs would keep an orderly end waiting. Supervisors start another."""
    os._exit(1)


@dataclass(frozen=True, slots=True)
class Watch:
    """What to do with work that makes no progress for `stall_seconds`: `abandon` lets the next
    worker go on at once, `end` does not return. `name` is said in the log."""

    name: str
    stall_seconds: float
    abandon: Callable[[], None]
    end: Callable[[], None] = end_process


class Heartbeat:
    """`over` is set once the work shall stop: the lease is lost, or the job is not wanted."""

    def __init__(self, renew: Callable[[], bool], *, lease_seconds: float, watch: Watch) -> None:
        self._renew = renew
        # At least three times per lease, and often enough to hear of a cancel soon.
        self._beat_seconds = min(lease_seconds / 3, LISTEN_SECONDS, watch.stall_seconds / 3)
        self._watch = watch
        self._steps: Callable[[], int] | None = None
        self._progress = self._seen = 0
        self._still_seconds = 0.0
        self._done = threading.Event()
        self.over = threading.Event()
        self.lost = False

    def progress(self) -> None:
        """Something was done that cannot happen again and again without end."""
        self._progress += 1

    def noting(self, items: Iterable[T]) -> Iterator[T]:
        """Each item is progress."""
        for item in items:
            self.progress()
            yield item

    def expect_progress(self, steps: Callable[[], int] = lambda: 0) -> None:
        """From here on the work is watched: before, a network may be on its way from the hub.
        `steps` is asked besides, for progress within a step of the caller's."""
        self._steps = steps

    def run(self) -> None:
        """A database that does not answer is no lost lease yet: the fencing token decides, and
        the next renewal may reach it."""
        while not self._done.wait(self._beat_seconds):
            if self._stands_still():
                self._die()
                return
            if not self.lost:
                self._beat()

    def _beat(self) -> None:
        try:
            wanted = self._renew()
        except LeaseLost:
            self.lost = True
            wanted = False
        except SQLAlchemyError as error:
            log.warning("lease.renewal_failed", error=type(error).__name__)
            return
        if not wanted:
            self.over.set()

    def stop(self) -> None:
        self._done.set()

    def _stands_still(self) -> bool:
        """Counted in beats: a process that was paused for long has not stood still for long."""
        if self._steps is None:
            return False
        seen = self._progress + self._steps()
        moved, self._seen = seen != self._seen, seen
        self._still_seconds = 0.0 if moved else self._still_seconds + self._beat_seconds
        return self._still_seconds >= self._watch.stall_seconds

    def _die(self) -> None:
        log.error(f"{self._watch.name}.stalled", seconds=self._watch.stall_seconds)
        try:
            self._watch.abandon()
        except SQLAlchemyError as error:  # the lease runs out by itself
            log.warning("lease.not_abandoned", error=type(error).__name__)
        finally:
            self._watch.end()


@contextmanager
def heartbeat(
    renew: Callable[[], bool], *, lease_seconds: float, watch: Watch
) -> Iterator[Heartbeat]:
    """Keep renewing inside the block. `renew` returns whether the work is still wanted."""
    beat = Heartbeat(renew, lease_seconds=lease_seconds, watch=watch)
    thread = threading.Thread(
        target=copy_context().run, args=(beat.run,), name="heartbeat", daemon=True
    )
    thread.start()
    try:
        yield beat
    finally:
        beat.stop()
        thread.join()
