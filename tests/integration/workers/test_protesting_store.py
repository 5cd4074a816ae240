"""A store that answers 503 SlowDown above a number of requests at a time."""

import threading
import time
from pathlib import Path

import pytest

from benchmarks.fetching import PROMPTS, SLOW_DOWN, SimulatedEngine
from maskmill.sample_scenes import draw_scene
from storage.guarded_fetch import GuardedFetcher
from storage.local_store import LocalStore
from storage.sources import Sources
from tests.integration.storage.web_server import Request, serving
from workers.engine.fetch_window import FetchWindow, current_fetch
from workers.engine.image_task import ImageTask
from workers.engine.pipeline import Pipeline

IMAGES = 300
MOST_AT_ONCE = 10


class Protesting:
    def __init__(self, image: bytes) -> None:
        self.refused = 0
        self._now = 0
        self._lock = threading.Lock()
        self._image = image

    def __call__(self, request: Request) -> None:
        with self._lock:
            is_refused = self._now >= MOST_AT_ONCE
            self.refused += is_refused
            self._now += not is_refused
        if is_refused:
            request.answer(503, SLOW_DOWN)
            return
        time.sleep(0.02)
        with self._lock:
            self._now -= 1
        request.answer(200, self._image)


@pytest.mark.usefixtures("s3_environment")
@pytest.mark.parametrize("kind", ["s3", "http"])
def test_every_image_comes_with_few_refusals_and_no_storm(kind: str, tmp_path: Path) -> None:
    page = Protesting(draw_scene(0, size=64).encoded("JPEG"))
    with serving(page) as server:
        sources = Sources(
            allowed_sources=["s3://images"],
            allowed_outputs=[],
            fetcher=GuardedFetcher([server.host]),
            max_image_bytes=10**6,
            s3_endpoint_url=server.url,
        )
        uri = "s3://images/a.jpg" if kind == "s3" else f"{server.url}/a.jpg"

        def load() -> bytes:
            return sources.read_image(
                uri, own=LocalStore(tmp_path), local_root=None, fetch=current_fetch()
            )

        window = FetchWindow(least=2, most=64)
        engine = SimulatedEngine()
        pipeline = Pipeline(engine, floor=0.1, max_pixels=10**6, window=window)
        outcomes = list(pipeline.run([ImageTask(load, PROMPTS)] * IMAGES))
        sources.close()
    assert [outcome.error_message for outcome in outcomes] == [None] * IMAGES
    assert len(server.seen) == IMAGES + page.refused
    assert page.refused < IMAGES / 4
    assert window.limit < 64
