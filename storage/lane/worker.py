"""The lane as its workers see it: requests to take, answers to give, things to keep."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from domain.interactive import LaneAnswer, LaneRequest
from storage.lane import keys, scripts
from storage.lane.shelf import Shelf
from storage.settings import Settings

_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 20.0  # of the broker, for one command

_LOGITS_BYTES = 32 * 2**20  # per API key; a mask of SAM 3's has 324 KiB


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that is this worker's, until it answers or falls silent."""

    request: LaneRequest
    files: tuple[bytes, ...]


class WorkerLane:
    """`name` is this process's among the workers; a process started again has a new one, so that
    what the last one left behind is not taken for its own.

    `images` keeps the files that callers named, `logits` masks of theirs that may be refined.
    Thread safe. Every method raises redis.RedisError where the broker is away.
    """

    def __init__(self, settings: Settings, *, name: str) -> None:
        self.name = f"{name}:{secrets.token_hex(4)}"
        self.model = settings.models[0]
        self._broker = open_broker(settings)
        self._seconds = settings.kept_image_seconds
        self.images = Shelf(
            self._broker,
            "images",
            seconds=settings.kept_image_seconds,
            budget_bytes=settings.kept_image_bytes,
        )
        self.logits = Shelf(
            self._broker,
            "logits",
            seconds=settings.kept_image_seconds,
            budget_bytes=_LOGITS_BYTES,
        )
        self._take = self._broker.register_script(scripts.TAKE)
        self._beat = self._broker.register_script(scripts.BEAT)

    def take(self, request_id: str) -> Taken | None:
        """None where nobody waits any more, or another worker has it."""
        taken = self._take(
            keys=[keys.request(request_id), keys.CLICKS], args=[self.name, keys.CLICKS_SECONDS]
        )
        if not taken:
            return None
        found = cast(dict[bytes, bytes], self._broker.hgetall(keys.request(request_id)))
        if b"asked" not in found:
            return None
        request = LaneRequest.model_validate_json(found[b"asked"])
        count = sum(field.startswith(b"file") for field in found)
        return Taken(request, tuple(found[b"file%d" % number] for number in range(count)))

    def answer(
        self,
        request: LaneRequest,
        body: bytes,
        *,
        status: int = 200,
        media_type: str = "application/json",
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Ends the request. `counts` are added to the lane's in the same moment."""
        head = LaneAnswer(id=request.id, status=status, media_type=media_type).model_dump_json()
        with self._broker.pipeline() as pipeline:
            pipeline.unlink(keys.request(request.id))
            pipeline.rpush(request.reply_to, head.encode() + b"\n" + body)
            pipeline.expire(request.reply_to, keys.REPLIES_SECONDS)
            for name, added in (counts or {}).items():
                pipeline.hincrby(keys.COUNTS, name, added)
            pipeline.execute()

    def owner(self, key_id: str) -> str:
        """Under which things of an API key are kept until it clears them."""
        key, fresh = keys.generation(key_id), secrets.token_hex(8)
        with self._broker.pipeline() as pipeline:
            pipeline.set(key, fresh, nx=True)
            pipeline.get(key)
            pipeline.expire(key, 2 * self._seconds)  # outlives all that was kept under it
            generation = cast(bytes, pipeline.execute()[1])
        return f"{key_id}.{generation.decode()}"

    def beat(self) -> float:
        """Say that this worker lives; returns the broker's time."""
        living = [keys.workers(self.model)]
        return float(self._beat(keys=living, args=[self.name, keys.SILENT_SECONDS]))

    def cleared_since(self, moment: float) -> list[str]:
        """Owners whose things are to be forgotten; `moment` is the broker's time."""
        found = self._broker.zrangebyscore(keys.CLEARED, moment, "+inf")
        return [owner.decode() for owner in cast(list[bytes], found)]

    def waiting(self) -> int:
        """Messages that no worker has taken yet."""
        return self._broker.llen(keys.queue(self.model))

    def click(self) -> None:
        """Let bulk workers know that somebody waits for an answer."""
        self._broker.set(keys.CLICKS, 1, ex=keys.CLICKS_SECONDS)

    def clicks_come(self) -> bool:
        """Whether there were requests in the last seconds."""
        return bool(self._broker.exists(keys.CLICKS))

    def living(self) -> int:
        """How many workers answer requests for this model."""
        living = self._broker.register_script(scripts.LIVING)
        return int(living(keys=[keys.workers(self.model)], args=[keys.SILENT_SECONDS]))

    def close(self) -> None:
        self._broker.close()


def open_broker(settings: Settings) -> redis.Redis:
    """For bytes, unlike the one that Celery has."""
    return redis.Redis.from_url(
        settings.broker_url.get_secret_value(),
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_timeout=_ANSWER_SECONDS,
        retry=Retry(ConstantBackoff(0.1), 2),
    )
