"""The lane as the API sees it: ask, and await the answer without holding a thread."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakValueDictionary

import structlog
from kombu.exceptions import OperationalError as BrokerError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from domain.interactive import Asked, LaneAnswer, LaneRequest
from storage.lane import keys, scripts
from storage.lane.doorbell import Doorbell
from storage.lane.errors import LaneFull, LaneSilent
from storage.settings import Settings
from storage.tracing import current_traceparent

log = structlog.get_logger()

LOOK_SECONDS = 0.5
_READ_SECONDS = 5  # of one wait for answers; then the next begins
_PAUSE_SECONDS = 0.2  # before a broker that is away is asked again
_ASIDE_SECONDS = 3  # for what is no request; one has its own time
_LOOK_TIMEOUT_SECONDS = 20
_CONNECTIONS = 32
_IN_HAND_PER_KEY = 4  # half of what a worker has in hand; the rest of a key's requests wait here
_AWAY = (RedisError, BrokerError, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to pass on to the caller, unchanged."""

    status: int
    media_type: str
    body: bytes


@dataclass(slots=True)
class _Outstanding:
    """A request that this process awaits. `missed` counts the looks in a row that found neither
    the request, nor a message for it; `retried` is set once it has been lost. Not `sent`: others of
    the same API key are before it, or the broker is just being asked."""

    request: LaneRequest
    files: Sequence[bytes]
    answer: asyncio.Future[Answer]
    deadline: float  # of time.monotonic()
    sent: bool = False
    missed: int = 0
    retried: bool = False

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    @property
    def answered(self) -> bool:
        done = self.answer.done() and not self.answer.cancelled()
        return done and self.answer.exception() is None

    def fail(self, message: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(LaneSilent(message, retry_after_seconds=2))


@dataclass
class FrontLane:
    """One for each process, started and stopped in the event loop that uses it.

    Requests are looked after while they are outstanding: what a dead worker held, or the broker
    has forgotten, is sent once more. Answers that come twice or late are dropped. Of an API key
    few are sent at a time, so that slow ones leave threads of a worker to other keys.
    """

    settings: Settings
    _outstanding: dict[str, _Outstanding] = field(default_factory=dict, init=False)
    _turns: WeakValueDictionary[str, asyncio.Semaphore] = field(
        default_factory=WeakValueDictionary, init=False
    )
    _tasks: list[asyncio.Task[None]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        url, model = self.settings.broker_url.get_secret_value(), self.settings.models[0]
        self._queue, self._workers = keys.queue(model), keys.workers(model)
        self._doorbell = Doorbell(url, queue=self._queue)
        self._broker = _open(url, connections=_CONNECTIONS)
        self._reader = _open(url, connections=1)
        self._reply_to = keys.replies(uuid.uuid4().hex)
        self._look_script = self._broker.register_script(scripts.LOOK)
        self._living_script = self._broker.register_script(scripts.LIVING)
        self._clear_script = self._broker.register_script(scripts.CLEAR)

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._watch())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for outstanding in self._outstanding.values():
            outstanding.fail("the API is stopping")
        self._doorbell.close()
        await self._broker.aclose()
        await self._reader.aclose()

    async def ask(self, asked: Asked, *, key_id: str, files: Sequence[bytes]) -> Answer:
        """Raises LaneFull before anything is sent, and LaneSilent."""
        if not (self._has_room(key_id) and self._holds(files)):
            raise await self._full("too much of this API key, or of all, is not answered yet")
        outstanding = self._new(asked, key_id=key_id, files=files)
        self._outstanding[outstanding.request.id] = outstanding
        turns = self._turns.setdefault(key_id, asyncio.Semaphore(_IN_HAND_PER_KEY))
        try:
            async with asyncio.timeout(outstanding.seconds_left):
                await self._admit(asked.kind)
                async with turns:
                    await self._send(outstanding)
                    return await outstanding.answer
        except TimeoutError as error:  # an OSError too
            raise _silent("no worker answered in time") from error
        except _AWAY as error:
            raise _silent("the broker is away") from error
        finally:
            del self._outstanding[outstanding.request.id]
            await self._forget(outstanding)

    async def clear(self, key_id: str) -> None:
        """Nothing that was kept for this API key can be reached by any worker after this.

        Raises LaneSilent where the broker is away.
        """
        shelves = [keys.shelf(kind, "") for kind in ("images", "logits")]
        async with _soon():
            await self._clear_script(
                keys=[keys.generation(key_id), keys.CLEARED],
                args=[key_id, keys.CLEARED_SECONDS, *shelves],
            )

    async def counts(self) -> dict[str, int]:
        """Since the broker was empty: requests_concept, requests_visual, requests_embed,
        requests_workflow, refused_full, retried, embedding_hits, embedding_misses. And now:
        waiting (messages), workers (alive). Raises LaneSilent where the broker is away."""
        async with _soon():
            counted = cast(dict[bytes, bytes], await self._broker.hgetall(keys.COUNTS))
            waiting = await self._broker.llen(self._queue)
            workers = await self._living_script(keys=[self._workers], args=[keys.SILENT_SECONDS])
        found = {name.decode(): int(count) for name, count in counted.items()}
        return {**found, "waiting": waiting, "workers": workers}

    async def _admit(self, kind: str) -> None:
        waiting = await self._broker.llen(self._queue)
        if waiting >= self.settings.interactive_waiting:
            raise await self._full(f"{waiting} requests wait already")
        await self._count(f"requests_{kind}")

    async def _full(self, message: str) -> LaneFull:
        with suppress(LaneSilent):
            async with _soon():
                await self._count("refused_full")
        return LaneFull(message, retry_after_seconds=1)

    def _has_room(self, key_id: str) -> bool:
        own = sum(one.request.key_id == key_id for one in self._outstanding.values())
        return own < self.settings.interactive_per_key

    def _holds(self, files: Sequence[bytes]) -> bool:
        """Whether these may be outstanding too: they lie here and in the broker meanwhile."""
        held = sum(len(data) for one in self._outstanding.values() for data in one.files)
        return held + sum(map(len, files)) <= self.settings.interactive_bytes

    def _new(self, asked: Asked, *, key_id: str, files: Sequence[bytes]) -> _Outstanding:
        request = LaneRequest(
            id=uuid.uuid4().hex,
            key_id=key_id,
            reply_to=self._reply_to,
            asked=asked,
            traceparent=current_traceparent(),
        )
        deadline = time.monotonic() + self.settings.interactive_seconds
        return _Outstanding(request, files, asyncio.get_running_loop().create_future(), deadline)

    async def _send(self, outstanding: _Outstanding) -> None:
        request = outstanding.request
        fields: dict[Any, Any] = {"asked": request.model_dump_json(), "reply_to": self._reply_to}
        fields.update((f"file{n}", data) for n, data in enumerate(outstanding.files))
        async with self._broker.pipeline() as pipeline:
            pipeline.hset(keys.request(request.id), mapping=fields)
            seconds = outstanding.seconds_left + keys.SLACK_SECONDS
            pipeline.pexpire(keys.request(request.id), round(1000 * seconds))
            await pipeline.execute()
        await self._ring(outstanding)

    async def _ring(self, outstanding: _Outstanding) -> None:
        await self._doorbell.ring(outstanding.request.id)
        outstanding.sent, outstanding.missed = True, 0

    async def _forget(self, outstanding: _Outstanding) -> None:
        """A worker that comes to a request which nobody awaits finds nothing."""
        if outstanding.answered and not outstanding.retried:
            return  # whoever answered has removed it
        with suppress(LaneSilent):
            async with _soon():
                await self._broker.unlink(keys.request(outstanding.request.id))

    async def _read(self) -> None:
        """Takes the answers to this process, one after the other, as long as it runs."""
        while True:
            try:
                async with asyncio.timeout(_READ_SECONDS + 10):
                    popped = await self._reader.blpop([self._reply_to], timeout=_READ_SECONDS)
                if popped:
                    self._settle(cast(bytes, popped[1]))
            except _AWAY as error:
                log.warning("lane.broker_away", error=type(error).__name__)
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception:  # who reads no more would answer nobody any more
                log.exception("lane.answer_not_understood")
                await asyncio.sleep(_PAUSE_SECONDS)

    def _settle(self, message: bytes) -> None:
        head, _, body = message.partition(b"\n")
        answer = LaneAnswer.model_validate_json(head)
        outstanding = self._outstanding.get(answer.id)
        if outstanding and not outstanding.answer.done():
            outstanding.answer.set_result(Answer(answer.status, answer.media_type, body))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                async with asyncio.timeout(_LOOK_TIMEOUT_SECONDS):
                    await self._look()
            except _AWAY as error:
                log.warning("lane.broker_away", error=type(error).__name__)
            except Exception:  # of libraries whose connection is gone, too
                log.exception("lane.look_failed")

    async def _look(self) -> None:
        """Ask the broker once what became of all that is outstanding."""
        sent = [one for one in self._outstanding.values() if one.sent]
        if not sent:
            return
        ids = [one.request.id for one in sent]
        found = await self._look_script(
            keys=[self._workers, self._queue],
            args=[keys.SILENT_SECONDS, keys.request(""), *ids],
        )
        for outstanding, word in zip(sent, found, strict=True):
            if outstanding.request.id in self._outstanding:
                await self._act(outstanding, word.decode())

    async def _act(self, outstanding: _Outstanding, word: str) -> None:
        """What is missing may be on its way: an answer to this process, a message to a worker. It
        is believed to be lost when it is still missing at the next look."""
        if outstanding.answer.done() or word in ("held", "queued"):
            outstanding.missed = 0
        elif word == "lost":
            await self._send_again(outstanding, why="its worker died")
        elif outstanding.missed == 0:
            outstanding.missed = 1
        elif word == "gone":
            await self._send_again(outstanding, why="the broker has forgotten it")
        else:  # unheard: ringing twice for a request does no harm
            await self._ring(outstanding)

    async def _send_again(self, outstanding: _Outstanding, *, why: str) -> None:
        log.warning("lane.request_lost", request=outstanding.request.id, why=why)
        if outstanding.retried:
            outstanding.fail(f"lost twice; {why}")
            return
        outstanding.retried = True
        await self._broker.hdel(keys.request(outstanding.request.id), "taken_by")
        await self._count("retried")
        await self._send(outstanding)
        if outstanding.request.id not in self._outstanding:  # meanwhile nobody awaits it any more
            await self._forget(outstanding)

    async def _count(self, name: str) -> None:
        await self._broker.hincrby(keys.COUNTS, name, 1)


def _silent(message: str) -> LaneSilent:
    return LaneSilent(message, retry_after_seconds=2)


@asynccontextmanager
async def _soon() -> AsyncIterator[None]:
    """Raises LaneSilent where the broker has not answered by then."""
    try:
        async with asyncio.timeout(_ASIDE_SECONDS):
            yield
    except _AWAY as error:
        raise _silent("the broker is away") from error


def _open(url: str, *, connections: int) -> Redis:
    """More callers than connections wait for one, within the callers' own time limits. The client
    has none: it would send by `asyncio.wait_for`, which before Python 3.12 loses a cancel that
    comes with the end of what it waits for (python/cpython#86296), and theirs are cancels."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=None,
        socket_connect_timeout=3,
        socket_timeout=None,
        retry=Retry(ConstantBackoff(0.1), 2),
    )
    return Redis.from_pool(pool)
