"""Ends a worker process that lives but is of no use any more, for its supervisor to start another.

Deaf: Celery's consumers are known to fall silent after the broker was away, in a process that
looks alive (celery/celery #8030, #10302). A worker with nothing to do takes a message at once. So
where messages lie in its queues look after look, while it has no task and gets none, it does not
hear them. A broker that is away says nothing about that.

Frozen: a thread that never gives the interpreter back stops all others, also the heartbeats that
would notice. A timer outside the interpreter is put off with each look.
"""

import faulthandler
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis
import structlog
from celery.signals import task_postrun, task_prerun

from workers.heartbeat import end_process

log = structlog.get_logger()

LOOK_SECONDS = 5.0
LEAST_LOOKS = 4  # before anything is concluded


class Liveness:
    """`queues` are those this worker is to consume, also when it no longer does."""

    def __init__(
        self,
        broker: redis.Redis,
        queues: Sequence[str],
        *,
        deaf_seconds: float,
        frozen_seconds: float,
        stopping: threading.Event,
        end: Callable[[], None] = end_process,
    ) -> None:
        self._broker = broker
        self._queues = queues
        self._deaf_seconds = deaf_seconds
        self._look_seconds = min(LOOK_SECONDS, deaf_seconds / LEAST_LOOKS, frozen_seconds / 2)
        self._frozen_seconds = frozen_seconds
        self._stopping = stopping
        self._end = end
        self._lock = threading.Lock()
        self._running = self._heard = self._seen = 0
        self._unheard_seconds = 0.0

    def start(self) -> None:
        task_prerun.connect(self.task_begins, weak=False)
        task_postrun.connect(self.task_ends, weak=False)
        threading.Thread(target=self._look_for_ever, name="liveness", daemon=True).start()

    def task_begins(self, **_: Any) -> None:
        with self._lock:
            self._running += 1
            self._heard += 1

    def task_ends(self, **_: Any) -> None:
        with self._lock:
            self._running -= 1

    def look(self) -> None:
        """Counted in looks: a process that was paused for long has not been deaf for long."""
        try:
            unheard = self._messages_wait() and self._hears_nothing()
        except redis.RedisError:
            unheard = False
        self._unheard_seconds = self._unheard_seconds + self._look_seconds if unheard else 0.0
        if self._unheard_seconds >= self._deaf_seconds and not self._stopping.is_set():
            log.error("worker.deaf", queues=self._queues, seconds=self._unheard_seconds)
            self._end()

    def _messages_wait(self) -> bool:
        return any(self._broker.llen(queue) for queue in self._queues)

    def _hears_nothing(self) -> bool:
        with self._lock:
            silent = self._running == 0 and self._heard == self._seen
            self._seen = self._heard
        return silent

    def _look_for_ever(self) -> None:
        while not self._stopping.wait(self._look_seconds):
            faulthandler.dump_traceback_later(
                self._frozen_seconds, exit=True, file=sys.__stderr__ or sys.stderr
            )
            try:
                self.look()
            except Exception:  # it must go on, or the timer ends a sound process
                log.exception("liveness.failed")
        faulthandler.cancel_dump_traceback_later()
