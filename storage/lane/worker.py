"""The lane as its workers see it: requests to take, answers to give, things to keep."""

import json
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis
import structlog
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from domain.interactive import LaneAnswer, LaneRequest
from storage.lane import keys, scripts
from storage.lane.shelf import Shelf
from storage.settings import Settings

_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 20.0  # of the broker, for one command

_LOGITS_BYTES = 32 * 2**20  # per API key; a mask of SAM 3's has 324 KiB
_MOST_LOGITS = 256  # per API key: each is compared with each prompt that may refine it
_MOST_IMAGES = 10_000  # per API key: small ones cost the broker more than their bytes

# Of one answer's body. Larger ones hold up the processes they pass through; the broker ends at
# 512 MiB.
MAX_REPLY_BYTES = 128 * 2**20

# Linux gives it at boot, and all containers on the host see the same. Their names differ.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that is this worker's, until it answers or falls silent. After `deadline`, a time
    of time.monotonic(), nobody waits any more."""

    request: LaneRequest
    files: tuple[bytes, ...]
    deadline: float


class WorkerLane:
    """`name` is this process's among the workers; a process started again has a new one, so that
    what the last one left behind is not taken for its own. `host` names what it shares cores with;
    None: told by the system.

    `images` keeps the files that callers named, `logits` masks of theirs that may be refined.
    Thread safe. Every method raises redis.RedisError where the broker is away.
    """

    def __init__(self, settings: Settings, *, name: str, host: str | None = None) -> None:
        self.name = f"{name}:{secrets.token_hex(4)}"
        self.model = settings.models[0]
        self._clicks = keys.clicks(host or _this_host())
        self._broker = open_broker(settings)
        self._seconds = settings.kept_image_seconds
        self.images = Shelf(
            self._broker,
            "images",
            seconds=settings.kept_image_seconds,
            budget_bytes=settings.kept_image_bytes,
            most=_MOST_IMAGES,
        )
        self.logits = Shelf(
            self._broker,
            "logits",
            seconds=settings.kept_image_seconds,
            budget_bytes=_LOGITS_BYTES,
            most=_MOST_LOGITS,
        )
        self._take = self._broker.register_script(scripts.TAKE)
        self._beat = self._broker.register_script(scripts.BEAT)

    def take(self, request_id: str) -> Taken | None:
        """None where nobody waits any more, or another worker has it. What cannot be read is
        answered at once: with 500, in the words for what goes wrong inside."""
        slack = 1000 * keys.SLACK_SECONDS
        left = self._take(
            keys=[keys.request(request_id), self._clicks],
            args=[self.name, keys.CLICKS_SECONDS, secrets.token_hex(8), slack],
        )
        if not left:
            return None
        deadline = time.monotonic() + int(left) / 1000
        found = cast(dict[bytes, bytes], self._broker.hgetall(keys.request(request_id)))
        if b"asked" not in found:
            return None
        try:
            return _parsed(found, deadline)
        except (ValueError, KeyError, RecursionError) as error:
            log.error("request.not_understood", request=request_id, error=type(error).__name__)
            body = b'{"message":"Internal error."}'
            self._push(request_id, found[b"reply_to"].decode(), body, status=500)
            return None

    def answer(
        self,
        request: LaneRequest,
        body: bytes,
        *,
        status: int = 200,
        media_type: str = "application/json",
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Ends the request. `counts` are added to the lane's in the same moment. A body of more
        than MAX_REPLY_BYTES is replaced by a refusal, 413."""
        if len(body) > MAX_REPLY_BYTES:
            body, status, media_type = _too_large(len(body)), 413, "application/json"
        self._push(
            request.id, request.reply_to, body, status=status, media_type=media_type, counts=counts
        )

    def _push(
        self,
        request_id: str,
        reply_to: str,
        body: bytes,
        *,
        status: int,
        media_type: str = "application/json",
        counts: Mapping[str, int] | None = None,
    ) -> None:
        head = LaneAnswer(id=request_id, status=status, media_type=media_type).model_dump_json()
        with self._broker.pipeline() as pipeline:
            pipeline.unlink(keys.request(request_id))
            pipeline.rpush(reply_to, head.encode() + b"\n" + body)
            pipeline.expire(reply_to, keys.REPLIES_SECONDS)
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

    def click(self) -> None:
        """Let bulk workers on this host know that somebody waits for an answer."""
        self._broker.set(self._clicks, 1, ex=keys.CLICKS_SECONDS)

    def clicks_come(self) -> bool:
        """Whether workers on this host took requests in the last seconds."""
        return bool(self._broker.exists(self._clicks))

    def living(self) -> int:
        """How many workers answer requests for this model."""
        living = self._broker.register_script(scripts.LIVING)
        return int(living(keys=[keys.workers(self.model)], args=[keys.SILENT_SECONDS]))

    def close(self) -> None:
        self._broker.close()


def _parsed(found: Mapping[bytes, bytes], deadline: float) -> Taken:
    request = LaneRequest.model_validate_json(found[b"asked"])
    count = sum(field.startswith(b"file") for field in found)
    files = tuple(found[b"file%d" % number] for number in range(count))
    return Taken(request, files, deadline)


def _too_large(byte_count: int) -> bytes:
    said = f"The answer would have {byte_count} bytes; {MAX_REPLY_BYTES} are allowed."
    return json.dumps({"message": said}).encode()


def _this_host() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else socket.gethostname()


def open_broker(settings: Settings) -> redis.Redis:
    """For bytes, unlike the one that Celery has."""
    return redis.Redis.from_url(
        settings.broker_url.get_secret_value(),
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_timeout=_ANSWER_SECONDS,
        retry=Retry(ConstantBackoff(0.1), 2),
    )
