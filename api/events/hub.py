"""One reader for all event streams of this process: its queries are a few a second, however many
streams there are. A stream is read for only once it has taken what it got, so that a slow one holds
a page in memory at most and nobody up.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import anyio
import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from api.events.schemas import ProgressDocument
from storage.events import Event, Position, Watch

STREAMS_PER_KEY = 32  # of one API process
_PAGE = 200
_LOOK_SECONDS = 1.0
_PROGRESS_SECONDS = 2.0

log = structlog.get_logger("api")

Entry = Event | ProgressDocument
ReadEvents = Callable[[Sequence[Watch], int], tuple[dict[Watch, list[Event]], set[Watch]]]
"""Called with (watches, most events of each): the new ones, and whose watch is over."""
ReadProgress = Callable[[Collection[str]], dict[str, ProgressDocument]]


class TooManyStreams(Exception):
    """The key has `STREAMS_PER_KEY` streams open."""


class Stream:
    """What one reader of a job's events is to get."""

    def __init__(self, job_id: str, *, key_id: str, after: Position) -> None:
        self.key_id = key_id
        self.watch = Watch(job_id, after)
        self.has_more = True  # known to be waiting, or not looked for yet
        self._entries: list[Entry] = []
        self._shown: ProgressDocument | None = None
        self._is_over = False
        self._changed = asyncio.Event()

    @property
    def is_hungry(self) -> bool:
        return not self._entries and not self._is_over

    async def take(self) -> list[Entry]:
        """The next ones in order; none when the stream is over."""
        await self._changed.wait()
        entries, self._entries = self._entries, []
        if not self._is_over:
            self._changed.clear()
        return entries

    def put_events(self, events: list[Event]) -> None:
        self.has_more = len(events) == _PAGE
        if events:
            self.watch = Watch(self.watch.job_id, events[-1].position)
            self._put(*events)

    def put_progress(self, progress: ProgressDocument) -> None:
        """If it is news."""
        if self._shown is None or progress.counts != self._shown.counts:
            self._shown = progress
            self._put(progress)

    def end(self) -> None:
        self._is_over = True
        self._changed.set()

    def _put(self, *entries: Entry) -> None:
        self._entries += entries
        self._changed.set()


class Hub:
    def __init__(self, *, read_events: ReadEvents, read_progress: ReadProgress) -> None:
        self._read_events = read_events
        self._read_progress = read_progress
        self._streams: set[Stream] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.closing = anyio.Event()  # the server is about to stop
        self._woken = asyncio.Event()
        self._next_progress = 0.0
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._close())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def open(self, job_id: str, *, key_id: str, after: Position) -> Stream:
        """Raises `TooManyStreams`. Give it back with `close`."""
        if Counter(stream.key_id for stream in self._streams)[key_id] >= STREAMS_PER_KEY:
            raise TooManyStreams
        stream = Stream(job_id, key_id=key_id, after=after)
        if self.closing.is_set():
            stream.end()
        self._streams.add(stream)
        self.wake()
        return stream

    def close(self, stream: Stream) -> None:
        self._streams.discard(stream)

    def wake(self) -> None:
        """Look at once: somebody new is here, or has room for what is known to wait."""
        self._woken.set()

    async def _close(self) -> None:
        await self.closing.wait()
        for stream in self._streams:
            stream.end()

    async def _read(self) -> None:
        while True:
            try:
                await self._feed([s for s in self._streams if s.is_hungry])
            except Exception as error:  # without their reader all streams would fall silent
                is_known = isinstance(error, SQLAlchemyError)  # the database is away
                message = f"{type(error).__name__}: {error}"[:300]
                log.warning("streams.waiting", error=message, exc_info=not is_known)
                await asyncio.sleep(_LOOK_SECONDS)
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()

    async def _feed(self, streams: Sequence[Stream]) -> None:
        if not streams:
            return
        watches = list({stream.watch for stream in streams})
        found, over = await run_in_threadpool(self._read_events, watches, _PAGE)
        for stream in streams:
            if stream.watch in over:
                stream.end()
            else:
                stream.put_events(found[stream.watch])
        await self._feed_progress([s for s in streams if s.is_hungry])

    async def _feed_progress(self, streams: Sequence[Stream]) -> None:
        if not streams or time.monotonic() < self._next_progress:
            return
        self._next_progress = time.monotonic() + _PROGRESS_SECONDS
        job_ids = {stream.watch.job_id for stream in streams}
        progress = await run_in_threadpool(self._read_progress, job_ids)
        for stream in streams:
            if stream.watch.job_id in progress:
                stream.put_progress(progress[stream.watch.job_id])
