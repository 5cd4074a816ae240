"""Renews a lease beside the work, so that a dead worker is told from a slow one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError

from domain.errors import LeaseLost

LISTEN_SECONDS = 2.0

log = structlog.get_logger()


class Heartbeat:
    """`over` is set once the work shall stop: the lease is lost, or the job is not wanted."""

    def __init__(self, renew: Callable[[], bool], *, lease_seconds: float) -> None:
        self._renew = renew
        self._lease_seconds = lease_seconds
        self._done = threading.Event()
        self.over = threading.Event()
        self.lost = False

    def run(self) -> None:
        """Renew at least three times per lease, and often enough to hear of a cancel soon.

        A database that does not answer is no lost lease yet: the fencing token decides, and
        the next renewal may reach it.
        """
        while not self._done.wait(min(self._lease_seconds / 3, LISTEN_SECONDS)):
            try:
                wanted = self._renew()
            except LeaseLost:
                self.lost = True
                wanted = False
            except SQLAlchemyError as error:
                log.warning("lease.renewal_failed", error=type(error).__name__)
                continue
            if not wanted:
                self.over.set()
                return

    def stop(self) -> None:
        self._done.set()


@contextmanager
def heartbeat(renew: Callable[[], bool], *, lease_seconds: float) -> Iterator[Heartbeat]:
    """Keep renewing inside the block. `renew` returns whether the work is still wanted."""
    beat = Heartbeat(renew, lease_seconds=lease_seconds)
    thread = threading.Thread(target=beat.run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield beat
    finally:
        beat.stop()
        thread.join()
