"""Rings Celery for a request, from async code: kombu blocks, so a thread of its own does it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from celery import Celery

from storage.outbox import Tasks

# A connection that a restart of the broker has cut is opened again at once. Waiting longer would
# keep the next request from being rung for.
_RETRY = {"max_retries": 2, "interval_start": 0, "interval_step": 0.2}


class Doorbell:
    """`ring` raises kombu.exceptions.OperationalError where the broker is away."""

    def __init__(self, broker_url: str, *, queue: str) -> None:
        self._app = Celery("maskmill-front", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            task_serializer="json",
            task_ignore_result=True,
            broker_connection_timeout=3,
            broker_transport_options={"socket_connect_timeout": 3, "socket_timeout": 5},
        )
        self._queue = queue
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="doorbell")

    async def ring(self, request_id: str) -> None:
        """The message does not expire: Celery would tell by the clocks of both hosts, and a worker
        that comes too late finds no request."""
        send = partial(
            self._app.send_task,
            Tasks.ANSWER,
            args=(request_id,),
            queue=self._queue,
            retry_policy=_RETRY,
        )
        await asyncio.get_running_loop().run_in_executor(self._thread, send)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._app.close()
