"""The network a worker has loaded: one at a time, loaded when a job names it."""

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import structlog

from domain.annotations import ImageOutcome
from domain.errors import InvalidRequest
from domain.prompts import ModelLimits
from storage.database import Database
from storage.lane import WorkerLane
from storage.models import PublishedModel, find_model, publish_model
from storage.settings import Settings
from workers.engine import load_engine
from workers.engine.fetch_window import FetchWindow
from workers.engine.image_task import ImageTask
from workers.engine.observing import Observe, unobserved
from workers.giving_way import giving_way
from workers.null_engine import NullEngine, is_null

if TYPE_CHECKING:
    from workers.engine.engine import Engine  # brings torch

log = structlog.get_logger()


class Pipeline(Protocol):
    @property
    def steps(self) -> int:
        """Grows while work goes on, also within a batch: tells slow from stuck."""
        ...

    def run(self, tasks: Iterable[ImageTask]) -> Generator[ImageOutcome, None, None]:
        """See workers.engine.pipeline.Pipeline."""
        ...


class Labeller(Protocol):
    """What a shard run knows of a network."""

    @property
    def limits(self) -> ModelLimits: ...
    @property
    def tokenizer_json(self) -> str: ...
    @property
    def weights_sha256(self) -> str: ...

    def pipeline(
        self, *, floor: float, max_pixels: int, observe: Observe = unobserved
    ) -> Pipeline: ...

    def giving_way(self, lane: WorkerLane) -> AbstractContextManager[None]:
        """Inside the block it steps back while single images come (workers.giving_way)."""
        ...


class NetworkLabeller:
    """A network and the pipeline around it."""

    def __init__(self, engine: "Engine", window: FetchWindow) -> None:
        self.limits = engine.limits
        self.tokenizer_json = engine.tokenizer_json
        self.weights_sha256 = engine.weights_sha256
        self._engine = engine
        self._window = window

    def pipeline(self, *, floor: float, max_pixels: int, observe: Observe = unobserved) -> Pipeline:
        from workers.engine import pipeline  # brings torch

        return pipeline.Pipeline(
            self._engine,
            floor=floor,
            max_pixels=max_pixels,
            window=self._window,
            observe=observe,
        )

    def giving_way(self, lane: WorkerLane) -> AbstractContextManager[None]:
        return giving_way(self._engine, lane)


class Engines:
    """Keeps the engine of the last job, so that jobs of one model pay for loading once."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._loaded: tuple[str, Engine] | None = None
        self._nulls: dict[str, NullEngine] = {}
        self._window = FetchWindow()  # the process's: shards go on with what others have learnt

    @property
    def loaded(self) -> list[tuple[str, str]]:
        """Names of models, and their devices."""
        loaded, nulls = self._loaded, [(name, "none") for name in list(self._nulls)]
        return nulls if loaded is None else [(loaded[0], str(loaded[1].device)), *nulls]

    def warm_up(self) -> None:
        """Load the default model before the first message arrives.

        A model that nobody could load so far is no reason to end: each job that names it fails
        with what is missing, and none waits for a worker that can only start again.
        """
        model = self._settings.models[0]
        try:
            self.labeller(model)
        except InvalidRequest as error:
            log.error("model.not_loaded", model=model, reason=error.message)

    def labeller(self, model: str) -> Labeller:
        """For bulk work. Without torch where the model is `null`."""
        if not is_null(model):
            return NetworkLabeller(self.engine(model), self._window)
        if model not in self._nulls:
            engine = NullEngine(model)
            self._publish(model, engine)
            self._nulls[model] = engine
        return self._nulls[model]

    def engine(self, model: str) -> "Engine":
        if self._loaded is None or self._loaded[0] != model:
            self._loaded = None  # frees the memory before the next network needs it
            self._loaded = (model, self._load(model))
        return self._loaded[1]

    def _load(self, model: str) -> "Engine":
        from workers.engine.checkpoint import CheckpointError  # brings torch

        try:
            engine = load_engine(
                model,
                engine=self._settings.engine,
                device=self._settings.device,
                precision=self._settings.precision,
                memory_share=self._settings.device_memory_share,
            )
        except CheckpointError as error:
            if self._others_have_loaded(model):
                raise  # the fault is this machine's: another worker takes the shard
            raise InvalidRequest("model_unavailable", str(error)) from error
        log.info(
            "model.loaded",
            model=model,
            engine=self._settings.engine,
            device=str(engine.device),
            details=engine.details,
            notice=engine.notice,
        )
        self._publish(model, engine)
        return engine

    def _publish(self, model: str, engine: "Engine | NullEngine") -> None:
        published = PublishedModel(
            model, engine.limits, engine.tokenizer_json, engine.weights_sha256
        )
        with self._database.begin() as connection:
            publish_model(connection, published)

    def _others_have_loaded(self, model: str) -> bool:
        with self._database.begin() as connection:
            return find_model(connection, model) is not None
