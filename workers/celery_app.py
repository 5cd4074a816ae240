"""Celery, tamed in one file: a doorbell with JSON messages that may be lost or rung twice.

A message carries ids at most. Who may do what is decided by leases in PostgreSQL, and in the
interactive lane by whoever takes a request first (storage.lane).
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from celery import Celery
from celery.signals import (
    celeryd_after_setup,
    setup_logging,
    worker_ready,
    worker_shutting_down,
)

from storage.lane import keys
from storage.logs import configure_logging
from storage.outbox import Tasks
from storage.settings import load_settings
from workers.runtime import runtime

log = structlog.get_logger()

BULK = "bulk"
PLANNING = "planning"
INTERACTIVE = "interactive"  # stands for the queue of the worker's model: storage.lane.keys.queue
# Tasks end well before this, so that a message is not delivered to a second worker meanwhile.
VISIBILITY_SECONDS = 600


def _configuration() -> dict[str, Any]:
    return {
        "broker_url": load_settings().broker_url.get_secret_value(),
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "task_default_queue": PLANNING,
        "task_routes": {Tasks.RUN_SHARDS: {"queue": BULK}},
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            # Redelivery otherwise takes 10 x 10 s, whatever the visibility time-out.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_keepalive": True,
        },
    }


app = Celery("maskmill", include=["workers.tasks"])
app.add_defaults(_configuration)  # called when the configuration is first read, not now


@setup_logging.connect
def _log_as_we_do(**_: Any) -> None:
    configure_logging(load_settings().log_format)


@worker_shutting_down.connect
def _give_back(**_: Any) -> None:
    """SIGTERM: running tasks end after the batch in flight and give their shard back."""
    runtime().stopping.set()


@celeryd_after_setup.connect
def _prepare(instance: Any, **_: Any) -> None:
    """Make the runtime before any thread needs it. A bulk worker loads its network before the
    first message and publishes its limits; an interactive one loads it and runs it once. Where
    that fails for a reason of this machine's alone it must not take any work, so it ends (Celery
    would go on) and is started again by whoever supervises it."""
    held, queues = runtime(), instance.app.amqp.queues
    if BULK in queues.consume_from:
        _go_behind_others(held.settings.bulk_niceness)
        _load(held.engines.warm_up)
    elif INTERACTIVE in queues.consume_from:
        queues.select_add(keys.queue(held.lane.model))
        queues.deselect(INTERACTIVE)
        _load(lambda: _interactive_worker().warm_up())


def _load(warm_up: Callable[[], None]) -> None:
    try:
        warm_up()
    except Exception:
        log.exception("model.not_loaded")
        os._exit(1)


@worker_ready.connect
def _live(sender: Any, **_: Any) -> None:
    """From here on it hears messages, and says that it lives."""
    if keys.queue(runtime().lane.model) in sender.app.amqp.queues.consume_from:
        _interactive_worker().start_beating()


def _interactive_worker() -> Any:
    from workers.interactive.lane import interactive_worker  # brings torch

    return interactive_worker()


def _go_behind_others(niceness: int) -> None:
    """Threads are as nice as the one that starts them, so before there are any others. Where Linux
    shares cores between sessions first (autogroups), it is the session that has to be nice."""
    os.nice(niceness)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))
