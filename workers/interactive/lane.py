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

from domain.errors import InvalidRequest
from domain.geometry import Point
from domain.prompts import ConceptPrompt
from storage.lane import Taken, WorkerLane
from storage.lane.keys import BEAT_SECONDS, CLEARED_SECONDS
from workers.engine.engine import Pointed
from workers.interactive.answers import Answers, Reply, json_reply
from workers.interactive.earlier_masks import EarlierMasks
from workers.interactive.images import Images
from workers.interactive.segmenter import Segmenter
from workers.runtime import Runtime, runtime

log = structlog.get_logger()

# A worker with nothing to do that leaves messages lying for so long does not hear them any more:
# Celery's consumers are known to fall silent after the broker was away.
DEAF_SECONDS = 15.0

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
        self._busy = 0
        self._last_heard = time.monotonic()

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
        self._note(+1)
        try:
            taken = self._lane.take(request_id)
            if taken is not None and time.time() < taken.request.deadline:
                self._reply(taken)
        finally:
            self._note(-1)

    def _reply(self, taken: Taken) -> None:
        request = taken.request
        with structlog.contextvars.bound_contextvars(request=request.id, key=request.key_id):
            reply = self._replied(taken)
        self._lane.answer(
            request,
            reply.body,
            status=reply.status,
            media_type=reply.media_type,
            counts=self._news(),
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
                deadline=taken.request.deadline,
            )
        except TimeoutError:
            log.warning("request.too_late", kind=taken.request.asked.kind)
            return json_reply({"message": "This takes longer than a request may."}, status=503)
        except InvalidRequest as error:
            log.error("model.not_loaded", reason=error.message)
            return json_reply({"message": "The model cannot be loaded on this server."}, status=503)
        except Exception:
            log.exception("request.failed", kind=taken.request.asked.kind)
            return json_reply({"message": "Internal error."}, status=500)

    def _ready(self) -> Answers:
        with self._building:
            if self._answers is None:
                self._answers = self._build()
                self._told = _counts(self._answers)
            return self._answers

    def _note(self, change: int) -> None:
        with self._counting:
            self._busy += change
            self._last_heard = time.monotonic()

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
            time.sleep(BEAT_SECONDS)

    def beat(self, last: float) -> float:
        """One heartbeat: alive, clicks still in hand, what callers have cleared since `last`, and
        whether messages are heard. Returns the broker's time."""
        now = self._lane.beat()
        if self._busy:
            self._lane.click()
        if self._answers is not None:
            for owner in self._lane.cleared_since(last or now - CLEARED_SECONDS):
                self._answers.segmenter.forget(owner)
        if self._is_deaf():
            log.error("lane.deaf", seconds=DEAF_SECONDS)
            self._end()
        return now

    def _is_deaf(self) -> bool:
        if self._busy or self._lane.waiting() == 0:
            self._last_heard = time.monotonic()
        return time.monotonic() - self._last_heard > DEAF_SECONDS


def _counts(answers: Answers) -> dict[str, int]:
    segmenter = answers.segmenter
    return {"embedding_hits": segmenter.hits, "embedding_misses": segmenter.misses}


@cache
def interactive_worker() -> InteractiveWorker:
    """The process's own, made by the warm-up."""
    held = runtime()
    return InteractiveWorker(held.lane, lambda: build_answers(held), end=lambda: os._exit(1))


def build_answers(held: Runtime) -> Answers:
    """Loads the network and runs it once. Raises InvalidRequest where the model cannot be had."""
    settings = held.settings
    segmenter = Segmenter(
        held.engines.engine(settings.models[0]),
        max_pixels=settings.max_image_pixels,
        device_bytes=settings.embedding_device_bytes,
        host_bytes=settings.embedding_host_bytes,
    )
    _rehearse(segmenter)
    return Answers(
        segmenter,
        Images(segmenter, held.lane.images),
        EarlierMasks(held.lane.logits),
        settings.max_image_pixels,
    )


def _rehearse(segmenter: Segmenter) -> None:
    """The first run of each step takes longer than all that follow."""
    file = io.BytesIO()
    Image.new("RGB", (256, 256), "grey").save(file, "PNG")
    image = segmenter.see(_REHEARSAL, file.getvalue())
    segmenter.concepts(image, [ConceptPrompt("visual")], floor=0.5)
    segmenter.objects(image, [Pointed((Point(128, 128),), None, True, None)])
    segmenter.forget(_REHEARSAL)
