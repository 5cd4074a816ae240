"""The API with a real broker, and a worker that takes what it asks and says something fitting."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from queue import Empty
from typing import Any

import pytest
import redis
from fastapi.testclient import TestClient
from kombu import Connection, Queue
from pydantic import SecretStr

from api import app
from api.interactive.images import ImageLoader
from domain.interactive import Asked
from maskmill.embedded.postgres import PostgresServer
from maskmill.embedded.valkey import ValkeyServer
from storage.lane import Taken, WorkerLane
from storage.lane.keys import queue
from storage.settings import Settings
from tests.integration.api.conftest import Api, opened_api, settings_for
from tests.services import fresh_database

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
PIXEL = {"type": "base64", "value": base64.b64encode(PNG).decode()}
BODIES: dict[str, dict[str, Any]] = {
    "concept": {"prompt_results": [], "time": 0.1},
    "visual": {"predictions": [], "time": 0.1},
    "embed": {"image_id": "0" * 40, "time": 0.1},
    "workflow": {"outputs": [{}], "profiler_trace": []},
}


@dataclass
class AnsweringWorker:
    """Answers as the lane's workers do, with the bodies of `BODIES`, while `may_answer` is set."""

    lane: WorkerLane
    taken: list[Taken] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def answer(self, request_id: str) -> None:
        self.may_answer.wait(30)
        taken = self.lane.take(request_id)
        if taken is not None:
            self.taken.append(taken)
            body = json.dumps(BODIES[taken.request.asked.kind]).encode()
            self.lane.answer(taken.request, body, counts={"embedding_misses": 1})


@dataclass(frozen=True)
class Interactive:
    """`post` calls as alice; the key is in the header."""

    api: Api
    worker: AnsweringWorker

    @property
    def client(self) -> TestClient:
        return self.api.client

    @property
    def key(self) -> str:
        return self.api.alice["Authorization"].removeprefix("Bearer ")

    @property
    def bobs_key(self) -> str:
        return self.api.bob["Authorization"].removeprefix("Bearer ")

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        headers = {
            **self.api.alice,
            "Content-Type": "application/json",
            **options.pop("headers", {}),
        }
        if body is not None:
            options["json"] = body
        return self.client.post(path, headers=headers, **options)

    def asked(self) -> Asked:
        """By the latest request that a worker took."""
        return self.worker.taken[-1].request.asked

    def files(self) -> tuple[bytes, ...]:
        return self.worker.taken[-1].files


@pytest.fixture(scope="module")
def interactive_settings(
    postgres_server: PostgresServer,
    migrated_template: str,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Settings]:
    """Of a whole module: its tests leave nothing that others would see."""
    with redis.Redis.from_url(valkey_server.url) as broker:
        broker.flushall()
    folder = tmp_path_factory.mktemp("store")
    for database_url in fresh_database(postgres_server, template=migrated_template):
        yield settings_for(
            database_url,
            folder,
            broker_url=SecretStr(valkey_server.url),
            interactive_per_key=50,
            max_request_image_bytes=200_000,
            max_request_bytes=500_000,
            fetch_seconds=3.0,
        )


@pytest.fixture(scope="module")
def interactive(interactive_settings: Settings) -> Iterator[Interactive]:
    with opened(interactive_settings) as interactive:
        yield interactive


@contextmanager
def _counting_anew() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "_COUNTED_SECONDS", 0.0)
        yield


@contextmanager
def opened(settings: Settings) -> Iterator[Interactive]:
    """Asks the broker at every scrape."""
    with (
        _counting_anew(),
        opened_api(settings) as api,
        closing(WorkerLane(settings, name="test")) as lane,
        answering(AnsweringWorker(lane), settings) as worker,
    ):
        api.client.follow_redirects = False
        yield Interactive(api, worker)


@contextmanager
def answering(worker: AnsweringWorker, settings: Settings) -> Iterator[AnsweringWorker]:
    """Consumes the lane's messages in a thread."""
    worker.may_answer.set()
    worker.lane.beat()
    stop = threading.Event()

    def consume() -> None:
        name = queue(settings.models[0])
        with (
            Connection(settings.broker_url.get_secret_value()) as broker,
            closing(broker.SimpleQueue(Queue(name, no_declare=True), no_ack=True)) as messages,
        ):
            while not stop.is_set():
                worker.lane.beat()
                with suppress(Empty):
                    (request_id,), *_ = messages.get(timeout=0.1).payload
                    worker.answer(request_id)

    thread = threading.Thread(target=consume, name="answering")
    thread.start()
    try:
        yield worker
    finally:
        worker.may_answer.set()
        stop.set()
        thread.join()


@contextmanager
def fetching(interactive: Interactive, **changes: Any) -> Iterator[Interactive]:
    """With other settings, and another resolver, for the images of requests."""
    resolve = changes.pop("resolve", None)
    settings = interactive.api.settings.model_copy(update=changes)
    state = interactive.client.app.state  # type: ignore[attr-defined]
    usual = state.context
    loader = ImageLoader(settings, **({"resolve": resolve} if resolve else {}))
    with closing(loader):
        state.context = replace(usual, images=loader, settings=settings)
        yield interactive
        state.context = usual
