"""Celery, tamed in one file: a doorbell with JSON messages that may be lost or rung twice.

A message carries ids at most. Who may do what is decided by leases in PostgreSQL.
"""

import os
from typing import Any

import structlog
from celery import Celery
from celery.signals import celeryd_after_setup, setup_logging, worker_shutting_down

from storage.logs import configure_logging
from storage.outbox import Tasks
from storage.settings import load_settings
from workers.runtime import runtime

log = structlog.get_logger()

BULK = "bulk"
PLANNING = "planning"
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
    first message and publishes its limits. Where that fails for a reason of this machine's alone
    it must not take any work, so it ends (Celery would go on) and is started again by whoever
    supervises it."""
    held = runtime()
    if BULK not in instance.app.amqp.queues.consume_from:
        return
    try:
        held.engines.warm_up()
    except Exception:
        log.exception("model.not_loaded")
        os._exit(1)
