"""The front door: `uvicorn --factory api.app:create_app`."""

import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool

from api import metrics, operations, problems
from api.auth import caller
from api.console.pages import router as console_pages
from api.console.routes import router as console
from api.context import Context
from api.datasets.routes import router as datasets
from api.evaluations.routes import router as evaluations
from api.events.hub import Hub
from api.events.routes import router as events
from api.events.service import read_events, read_progress
from api.exports.routes import router as exports
from api.http_metrics import HttpMetrics
from api.images.pictures import Pictures
from api.images.ranking import Rankings
from api.images.routes import router as job_images
from api.interactive.images import ImageLoader
from api.interactive.paths import SingleImageDoor, SingleImagePaths
from api.jobs.routes import router as jobs
from api.keys.routes import router as keys
from api.lint.routes import router as lint
from api.models.routes import router as models
from api.previews.routes import router as previews
from api.recent import Recent
from api.request_limit import RequestLimit
from api.requests import BodyLimit, RequestLog
from api.results.routes import downloads
from api.results.routes import router as results
from api.segment.routes import clearing
from api.segment.routes import router as segment
from api.swagger import router as docs
from api.system.routes import router as system
from api.timings.routes import router as timings
from api.turns import Turns
from api.webhooks.routes import router as webhooks
from api.workflows.routes import router as workflows
from domain.version import code_version
from storage.database import Database
from storage.lane import FrontLane
from storage.logs import configure_logging
from storage.object_store import open_store
from storage.pictures import ImageFiles
from storage.settings import Settings, load_settings
from storage.sources import Sources
from storage.tracing import configure_tracing, stop_tracing

MAX_JSON_BYTES = 2**20
_CHECKED_SECONDS = 2.0  # /readyz takes no key, and its checks write to the store
_WATCHED_SECONDS = 5.0  # /metrics takes none either
_COUNTED_SECONDS = 1.0  # nor does /readiness
_BODY_SECONDS = 60.0
_RANK_SECONDS = 60.0  # what a sorted list of images may take: 100,000 of them may have to be read
_STRANGERS = 4  # of the largest bodies may be on their way before their keys are known
_EVERYWHERE = problems.declared(401, 403, 422, 429, 503)
_KEYED = (
    *(jobs, previews, events, webhooks, results, job_images, exports, evaluations),
    *(timings, datasets, keys, models, system, lint),
)
_SINGLE_IMAGES = (segment, clearing, workflows)
_OPERATIONS = (operations.router, metrics.router)
_UNKEYED = (downloads, *_SINGLE_IMAGES, console, console_pages, docs, *_OPERATIONS)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Connects to nothing yet: the database and the store may come up later."""
    settings = settings or load_settings()
    configure_logging(settings.log_format)
    configure_tracing("maskmill-api")
    app = FastAPI(
        title="maskmill",
        version=code_version(),
        summary="Instance masks for images and whole datasets from prompts you can name.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = _context(settings)
    for router in _KEYED:
        app.include_router(router, dependencies=[Depends(caller)], responses=_EVERYWHERE)
    for router in _UNKEYED:
        app.include_router(router)
    _add_middleware(app, settings)
    problems.install_problem_handlers(app)
    _declare_problem_type(app)
    return app


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """The last one added sees a request first."""
    paths = SingleImagePaths(_SINGLE_IMAGES)

    def limit(method: str, path: str) -> int:
        """Uploads are written to disk as they come; all else is held in memory."""
        if paths.methods(path):
            return settings.max_request_bytes
        return settings.max_upload_bytes if method == "PUT" else MAX_JSON_BYTES

    app.add_middleware(
        BodyLimit,
        limit_bytes=limit,
        seconds=_BODY_SECONDS,
        strangers_bytes=_STRANGERS * settings.max_request_bytes,
    )
    app.add_middleware(SingleImageDoor, paths=paths, origins=settings.cors_origins)
    app.add_middleware(RequestLog, metrics=app.state.context.http_metrics)
    # It would write whole addresses, which may hold keys; RequestLog says all the rest.
    logging.getLogger("uvicorn.access").disabled = True


def _context(settings: Settings) -> Context:
    database = Database(settings.database_url.get_secret_value())
    store = open_store(settings.object_store, settings=settings)
    lane = FrontLane(settings)
    sources = Sources.from_settings(settings)
    files = ImageFiles(database, objects=store, sources=sources)
    return Context(
        settings=settings,
        database=database,
        store=store,
        sources=sources,
        checks=Recent(
            partial(run_in_threadpool, operations.checked, settings, database, store),
            seconds=_CHECKED_SECONDS,
        ),
        watched=Recent(
            partial(run_in_threadpool, metrics.watched_or_none, database), seconds=_WATCHED_SECONDS
        ),
        lane_counts=Recent(partial(metrics.lane_counts_or_none, lane), seconds=_COUNTED_SECONDS),
        http_metrics=HttpMetrics(),
        request_limit=RequestLimit(
            settings.broker_url.get_secret_value(), per_minute=settings.requests_per_minute
        ),
        lane=lane,
        images=ImageLoader(settings),
        pictures=Pictures(files, settings),
        rankings=Rankings(),
        rank_turns=Turns("rank", threads=2, places=16, per_key=4, seconds=_RANK_SECONDS),
        hub=Hub(
            read_events=partial(read_events, database),
            read_progress=partial(read_progress, database),
        ),
        server_id=str(uuid.uuid4()),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    await context.lane.start()
    await context.hub.start()
    yield
    await context.hub.stop()
    await context.lane.stop()
    context.images.close()
    context.pictures.close()
    context.rank_turns.close()
    context.sources.close()
    context.request_limit.close()
    context.database.dispose()
    await run_in_threadpool(stop_tracing)


def _declare_problem_type(app: FastAPI) -> None:
    """FastAPI has one media type per route; problems have one of their own."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            for response in _error_responses(plain()):
                content = response.get("content", {})
                if content.get("application/json", {}).get("schema") == _PROBLEM_REF:
                    content[problems.MEDIA_TYPE] = content.pop("application/json")
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]


_PROBLEM_REF = {"$ref": "#/components/schemas/Problem"}


def _error_responses(schema: dict[str, Any]) -> list[dict[str, Any]]:
    operations_ = [op for path in schema["paths"].values() for op in path.values()]
    return [r for op in operations_ for r in op["responses"].values()]
