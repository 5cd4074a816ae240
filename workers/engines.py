"""The network a worker has loaded: one at a time, loaded when a job names it."""

from typing import TYPE_CHECKING

import structlog

from domain.errors import InvalidRequest
from storage.database import Database
from storage.models import PublishedModel, find_model, publish_model
from storage.settings import Settings
from workers.engine import load_engine

if TYPE_CHECKING:
    from workers.engine.engine import Engine

log = structlog.get_logger()


class Engines:
    """Keeps the engine of the last job, so that jobs of one model pay for loading once."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._loaded: tuple[str, Engine] | None = None

    def warm_up(self) -> None:
        """Load the default model before the first message arrives.

        A model that nobody could load so far is no reason to end: each job that names it fails
        with what is missing, and none waits for a worker that can only start again.
        """
        model = self._settings.models[0]
        try:
            self.engine(model)
        except InvalidRequest as error:
            log.error("model.not_loaded", model=model, reason=error.message)

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
        published = PublishedModel(
            model, engine.limits, engine.tokenizer_json, engine.weights_sha256
        )
        with self._database.begin() as connection:
            publish_model(connection, published)
        return engine

    def _others_have_loaded(self, model: str) -> bool:
        with self._database.begin() as connection:
            return find_model(connection, model) is not None
