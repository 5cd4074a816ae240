"""Celery, tamed in one file: a doorbell with JSON messages that may be lost or rung twice.

A message carries ids at most. Who may do what is decided by leases in PostgreSQL, and in the
interactive lane by whoever takes a request first (storage.lane).
"""

import os
from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from celery import Celery
from celery.signals import (
    celeryd_after_setup,
    setup_logging,
    task_postrun,
    task_prerun,
    task_received,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from kombu.transport.redis import Channel

from storage.lane import keys
from storage.lane.worker import open_broker
from storage.logs import configure_logging
from storage.outbox import PLANNING_QUEUE, bulk_queue
from storage.presence import Role
from storage.settings import load_settings
from storage.tracing import configure_tracing, stop_tracing
from workers.liveness import Liveness
from workers.metrics import Models, serve
from workers.presence import PresenceBeat
from workers.runtime import Runtime, runtime

log = structlog.get_logger()

# These stand for the queues of the worker's models: storage.outbox.bulk_queue, and that of its
# first: storage.lane.keys.queue.
BULK = "bulk"
INTERACTIVE = "interactive"
_TRACED_AS: dict[Role, str] = {
    "bulk": "maskmill-worker",
    "interactive": "maskmill-interactive",
    "planner": "maskmill-planner",
}
# Tasks end well before this, so that a message is not delivered to a second worker meanwhile; but
# for exports, which may take hours: whoever gets their message again finds the lease taken.
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
        "task_default_queue": PLANNING_QUEUE,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            # Redelivery otherwise takes 10 x 10 s, whatever the visibility time-out.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_keepalive": True,
        },
    }


# When a connection breaks, Celery 5.7 closes it twice, and the second time giving back a message in
# hand fails for want of an address, which ends the worker. Bells ring again by themselves.
Channel.do_restore = False

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
    _be_watched(held, queues.consume_from)
    if BULK in queues.consume_from:
        for model in held.settings.models:
            queues.select_add(bulk_queue(model))
        queues.deselect(BULK)
        _go_behind_others(held.settings.bulk_niceness)
        _load(held.engines.warm_up)
    elif INTERACTIVE in queues.consume_from:
        queues.select_add(keys.queue(held.lane.model))
        queues.deselect(INTERACTIVE)
        _load(lambda: _interactive_worker().warm_up())


def _be_watched(held: Runtime, queues: Container[str]) -> None:
    """Before the network is loaded, so that loading is seen as well."""
    role = _role(queues)
    configure_tracing(_TRACED_AS[role])
    held.metrics.watch(Models(held.engines))
    serve(held.metrics, port=held.settings.worker_metrics_port)
    beat = PresenceBeat(held, role)
    beat.start()
    worker_shutdown.connect(lambda **_: beat.end(), weak=False)


def _role(queues: Container[str]) -> Role:
    if BULK in queues:
        return "bulk"
    return "interactive" if INTERACTIVE in queues else "planner"


@task_received.connect
def _note_message(**_: Any) -> None:
    runtime().metrics.message_came()


@task_prerun.connect
def _name_in_log(task: Any, kwargs: Any, **_: Any) -> None:
    """Every line of a run says whose it is."""
    structlog.contextvars.bind_contextvars(task=task.name, **kwargs)


@task_postrun.connect
def _forget_name(**_: Any) -> None:
    structlog.contextvars.clear_contextvars()


@worker_shutdown.connect
def _send_last_spans(**_: Any) -> None:
    stop_tracing()


def _load(warm_up: Callable[[], None]) -> None:
    try:
        warm_up()
    except Exception:
        log.exception("model.not_loaded")
        os._exit(1)


@worker_ready.connect
def _live(sender: Any, **_: Any) -> None:
    """From here on it hears messages, says that it lives, and ends when it does not hear."""
    held, queues = runtime(), tuple(sender.app.amqp.queues.consume_from)
    deaf_seconds = held.settings.deaf_seconds
    if keys.queue(held.lane.model) in queues:
        _interactive_worker().start_beating()
        deaf_seconds = min(deaf_seconds, held.settings.interactive_seconds / 2)
    Liveness(
        open_broker(held.settings),
        queues,
        deaf_seconds=deaf_seconds,
        frozen_seconds=held.settings.stall_seconds,
        stopping=held.stopping,
    ).start()


def _interactive_worker() -> Any:
    from workers.interactive.lane import interactive_worker  # brings torch

    return interactive_worker()


def _go_behind_others(niceness: int) -> None:
    """Threads are as nice as the one that starts them, so before there are any others. Where Linux
    shares cores between sessions first (autogroups), it is the session that has to be nice."""
    os.nice(niceness)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))
