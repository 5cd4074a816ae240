"""A job's events as server-sent events (the HTML standard, section 9.2)."""

from collections.abc import AsyncIterator

import structlog
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from api.events.hub import Entry, Hub, Stream
from api.events.schemas import ProgressDocument
from api.events.service import event_document, event_id

KEEP_ALIVE_SECONDS = 15
SEND_SECONDS = 30.0  # a reader that takes nothing for so long is let go
_CLOSE_SECONDS = 2.0

log = structlog.get_logger("api")


class EventStream(EventSourceResponse):
    """Ends with the job, with the server, or when the reader is too slow; then the reader may come
    again with the id of the last event that it got."""

    def __init__(self, hub: Hub, stream: Stream, *, send_seconds: float = SEND_SECONDS) -> None:
        super().__init__(
            _messages(hub, stream),
            ping=KEEP_ALIVE_SECONDS,
            ping_message_factory=lambda: ServerSentEvent(comment="keep-alive"),
            send_timeout=send_seconds,
            shutdown_event=hub.closing,
            shutdown_grace_period=_CLOSE_SECONDS,
        )
        self._hub = hub
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("stream.too_slow", job_id=self._stream.watch.job_id)
        finally:
            self._hub.close(self._stream)


async def _messages(hub: Hub, stream: Stream) -> AsyncIterator[ServerSentEvent]:
    while entries := await stream.take():
        for entry in entries:
            yield _message(entry)
        if stream.has_more:
            hub.wake()


def _message(entry: Entry) -> ServerSentEvent:
    if isinstance(entry, ProgressDocument):
        return ServerSentEvent(entry.model_dump_json(), event="progress")
    data = event_document(entry).model_dump_json()
    return ServerSentEvent(data, event=entry.kind, id=event_id(entry))
