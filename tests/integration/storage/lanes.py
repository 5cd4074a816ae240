"""Both ends of a lane on a real Valkey, for tests."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import redis
from celery import Celery

from domain.interactive import EmbedRequest, ImageAsked
from storage.lane import Answer, FrontLane, Taken, WorkerLane, keys
from storage.settings import Settings

T = TypeVar("T")
EMBED = EmbedRequest(image=ImageAsked(file=0))


def lane_settings(broker_url: str, **changed: Any) -> Settings:
    return Settings(
        database_url="postgresql+psycopg://nobody@127.0.0.1:1/none",
        broker_url=broker_url,
        object_store="file:///nowhere",
        signing_secret="secret",
        **changed,
    )


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 120))


@asynccontextmanager
async def started(settings: Settings, count: int = 1) -> Any:
    """That many front lanes, as in so many API processes."""
    fronts = [FrontLane(settings) for _ in range(count)]
    for front in fronts:
        await front.start()
    try:
        yield fronts
    finally:
        for front in fronts:
            await front.stop()


async def embed(front: FrontLane, data: bytes = b"image", *, key_id: str = "key_1") -> Answer:
    return await front.ask(EMBED, key_id=key_id, files=[data])


class Hands:
    """A worker that is moved by hand: it hears the messages of the queue, as Celery would."""

    def __init__(self, settings: Settings, *, name: str = "hands") -> None:
        self.lane = WorkerLane(settings, name=name)
        self._broker = redis.Redis.from_url(settings.broker_url.get_secret_value())
        self._celery = Celery(broker=settings.broker_url.get_secret_value(), set_as_current=False)

    def hear(self, *, seconds: float = 10) -> str:
        """The id in the next message. Raises queue.Empty."""
        with self._celery.connection_for_read() as connection:
            queue = connection.SimpleQueue(keys.queue(self.lane.model))
            try:
                message = queue.get(timeout=seconds)
                message.ack()
                request_id: str = message.payload[0][0]
                return request_id
            finally:
                queue.close()

    async def take(self) -> Taken:
        """The next request."""
        taken = self.lane.take(await asyncio.to_thread(self.hear))
        assert taken is not None
        return taken

    def close(self) -> None:
        self.lane.close()
        self._broker.close()
        self._celery.close()


class Echo:
    """Beats, and answers every request with its first file, until the block ends."""

    def __init__(self, settings: Settings, answer: Callable[[bytes], bytes] = bytes) -> None:
        self._hands = Hands(settings, name="echo")
        self._answer = answer
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._beat, self._serve)
        ]

    def __enter__(self) -> "Echo":
        self._hands.lane.beat()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        self._hands.close()

    def _beat(self) -> None:
        while not self._done.wait(keys.BEAT_SECONDS):
            self._hands.lane.beat()

    def _serve(self) -> None:
        import queue

        while not self._done.is_set():
            try:
                request_id = self._hands.hear(seconds=0.2)
            except (queue.Empty, redis.ConnectionError):  # Celery's workers connect again, too
                continue
            if taken := self._hands.lane.take(request_id):
                self._hands.lane.answer(taken.request, self._answer(taken.files[0]))
