"""A worker process of the interactive lane: it takes requests, answers them, and says it lives."""

import io
import os
import threading
import time
from collections.abc import Callable
from functools import cache

import structlog
from PIL import Image
from redis.exceptions import RedisError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from domain.errors import InvalidRequest
from domain.geometry import Point
from domain.prompts import VISUAL_TEXT, ConceptPrompt
from storage.lane import Taken, WorkerLane
from storage.lane.keys import BEAT_SECONDS, CLEARED_SECONDS
from storage.tracing import span
from workers.engine.decoding import limit_pixels_at_once
from workers.engine.engine import Pointed
from workers.interactive.answers import Answers, Reply, json_reply
from workers.interactive.earlier_masks import EarlierMasks
from workers.interactive.images import Images
from workers.interactive.segmenter import Segmenter
from workers.metrics import EmbeddingCache
from workers.runtime import Runtime, runtime

log = structlog.get_logger()

# Beyond a request's time: whatever is still at work then does not end by itself.
STUCK_SECONDS = 120.0

_PAUSE_SECONDS = 0.2  # before a broker that is away is asked again
_REHEARSAL = "rehearsal"  # an owner that no API key has


class InteractiveWorker:
    """Requests are answered by many threads at once; those of a few milliseconds run as one batch.
    `build` makes the answers, which loads the network; where it cannot, requests are refused
    and it is tried again. `end` ends the process, for its supervisor to start another."""

    def __init__(
        self, lane: WorkerLane, build: Callable[[], Answers], *, end: Callable[[], None]
    ) -> None:
        self._lane = lane
        self._build = build
        self._end = end
        self._answers: Answers | None = None
        self._building = threading.Lock()
        self._counting = threading.Lock()
        self._told: dict[str, int] = {}
        self._in_hand: dict[str, float] = {}  # since when
        self._device_lost = False

    def warm_up(self) -> None:
        """Load the network before the first request. A model that cannot be had is no reason to
        end: requests are told."""
        try:
            self._ready()
        except InvalidRequest as error:
            log.error("model.not_loaded", reason=error.message)

    def start_beating(self) -> None:
        threading.Thread(target=self._beat_for_ever, name="lane-heartbeat", daemon=True).start()

    def answer(self, request_id: str) -> None:
        """The task. What nobody awaits any more, or another worker has, is left alone."""
        self._note(request_id, begins=True)
        try:
            taken = self._lane.take(request_id)
            if taken is not None:
                self._reply(taken)
        finally:
            self._note(request_id, begins=False)

    def _reply(self, taken: Taken) -> None:
        request = taken.request
        kind = request.asked.kind
        with (
            structlog.contextvars.bound_contextvars(request=request.id, key=request.key_id),
            span(f"answer {kind}", parent=request.traceparent, kind="consumer") as answering,
        ):
            reply = self._replied(taken)
            answering.set(request_id=request.id, key_id=request.key_id, status=reply.status)
        self._deliver(taken, reply, counts=self._news())

    def _deliver(self, taken: Taken, reply: Reply, *, counts: dict[str, int]) -> None:
        """What has been computed is worth some patience with a broker that is away."""
        attempts = Retrying(
            retry=retry_if_exception_type(RedisError),
            wait=wait_fixed(_PAUSE_SECONDS),
            stop=stop_after_delay(max(0.0, taken.deadline - time.monotonic())),
            reraise=True,
        )
        attempts(
            self._lane.answer,
            taken.request,
            reply.body,
            status=reply.status,
            media_type=reply.media_type,
            counts=counts,
        )

    def _replied(self, taken: Taken) -> Reply:
        """Whatever happens, the caller hears something, and nothing of our insides."""
        try:
            answers = self._ready()
            owner = self._lane.owner(taken.request.key_id)
            return answers.answer(
                taken.request.asked,
                files=taken.files,
                owner=owner,
                deadline=taken.deadline,
            )
        except TimeoutError:
            log.warning("request.too_late", kind=taken.request.asked.kind)
            return json_reply({"message": "This takes longer than a request may."}, status=503)
        except InvalidRequest as error:
            log.error("model.not_loaded", reason=error.message)
            return json_reply({"message": "The model cannot be loaded on this server."}, status=503)
        except RedisError as error:
            log.warning("lane.broker_away", error=type(error).__name__)
            return json_reply({"message": "Try again shortly: the broker was away."}, status=503)
        except Exception as error:
            log.exception("request.failed", kind=taken.request.asked.kind)
            self._device_lost = self._device_lost or _is_device_lost(error)
            return json_reply({"message": "Internal error."}, status=500)

    def _ready(self) -> Answers:
        with self._building:
            if self._answers is None:
                self._answers = self._build()
                self._told = _counts(self._answers)
            return self._answers

    def _note(self, request_id: str, *, begins: bool) -> None:
        with self._counting:
            if begins:
                self._in_hand[request_id] = time.monotonic()
            else:
                self._in_hand.pop(request_id, None)

    def _news(self) -> dict[str, int]:
        """What the counts have grown by since they were last told."""
        if self._answers is None:
            return {}
        with self._counting:
            now, told = _counts(self._answers), self._told
            self._told = now
        return {name: now[name] - told[name] for name in now if now[name] != told[name]}

    def _beat_for_ever(self) -> None:
        seen = 0.0
        while True:
            try:
                seen = self.beat(seen)
            except RedisError as error:
                log.warning("lane.broker_away", error=type(error).__name__)
            except Exception:  # a heart that stops would mean a dead worker
                log.exception("lane.beat_failed")
            time.sleep(BEAT_SECONDS)

    def beat(self, last: float) -> float:
        """One heartbeat: alive, clicks still in hand, what callers have cleared since `last`, and
        whether this process is of any use. Returns the broker's time."""
        now = self._lane.beat()
        if self._in_hand:
            self._lane.click()
        if self._answers is not None:
            for owner in self._lane.cleared_since(last or now - CLEARED_SECONDS):
                self._answers.segmenter.forget(owner)
        for fault, is_so in (
            ("stuck", self._is_stuck()),
            ("device_lost", self._device_lost),
        ):
            if is_so:
                log.error(f"lane.{fault}")
                self._end()
        return now

    def _is_stuck(self) -> bool:
        with self._counting:
            oldest = min(self._in_hand.values(), default=time.monotonic())
        return time.monotonic() - oldest > STUCK_SECONDS


def _is_device_lost(error: Exception) -> bool:
    """After such an error every further call fails: CUDA's are sticky."""
    return type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)


def _counts(answers: Answers) -> dict[str, int]:
    segmenter = answers.segmenter
    return {"embedding_hits": segmenter.hits, "embedding_misses": segmenter.misses}


@cache
def interactive_worker() -> InteractiveWorker:
    """The process's own, made by the warm-up."""
    held = runtime()

    def build() -> Answers:
        answers = build_answers(held)
        held.metrics.watch(EmbeddingCache(answers.segmenter))
        return answers

    return InteractiveWorker(held.lane, build, end=lambda: os._exit(1))


def build_answers(held: Runtime) -> Answers:
    """Loads the network and runs it once. Raises InvalidRequest where the model cannot be had."""
    settings = held.settings
    limit_pixels_at_once(2 * settings.max_request_image_pixels)
    segmenter = Segmenter(
        held.engines.engine(settings.models[0]),
        max_pixels=settings.max_request_image_pixels,
        device_bytes=settings.embedding_device_bytes,
        host_bytes=settings.embedding_host_bytes,
    )
    _rehearse(segmenter)
    return Answers(
        segmenter,
        Images(segmenter, held.lane.images),
        EarlierMasks(held.lane.logits),
        settings.max_request_image_pixels,
    )


def _rehearse(segmenter: Segmenter) -> None:
    """The first run of each step takes longer than all that follow."""
    file = io.BytesIO()
    Image.new("RGB", (256, 256), "grey").save(file, "PNG")
    image = segmenter.see(_REHEARSAL, file.getvalue())
    segmenter.concepts(image, [ConceptPrompt(VISUAL_TEXT)], floor=0.5)
    segmenter.objects(image, [Pointed((Point(128, 128),), None, True, None)])
    segmenter.forget(_REHEARSAL)
