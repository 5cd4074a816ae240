"""What the dispatcher does again and again beside publishing, each duty in a thread of its own: a
store that is slow to answer must not keep a doorbell from being rung."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import structlog
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from storage.object_store import StoreError

AWAY = (SQLAlchemyError, psycopg.Error, BrokerError, RedisError, StoreError)  # and comes back
_PATIENCE_SECONDS = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Duty:
    name: str
    seconds: float  # of rest after each turn
    work: Callable[[], None]


class Duties:
    def __init__(self, *duties: Duty) -> None:
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(duty,), name=duty.name, daemon=True)
            for duty in duties
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """A turn that has begun is waited for, but not for long: none must be done to its end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=_PATIENCE_SECONDS)

    def _run(self, duty: Duty) -> None:
        while not self._stopping.is_set():
            try:
                duty.work()
            except AWAY as error:
                log.warning(f"{duty.name}.waiting", error=f"{type(error).__name__}: {error}"[:300])
            except Exception:
                log.exception(f"{duty.name}.failed")
            self._stopping.wait(duty.seconds)
