"""The front door: `uvicorn --factory api.app:create_app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI

from api import operations, problems
from api.auth import caller
from api.checks import RecentChecks
from api.context import Context
from api.datasets.routes import router as datasets
from api.jobs.routes import router as jobs
from api.keys.routes import router as keys
from api.models.routes import router as models
from api.requests import BodyLimit, RequestLog
from api.results.routes import downloads
from api.results.routes import router as results
from domain.version import code_version
from storage.database import Database
from storage.logs import configure_logging
from storage.object_store import open_store
from storage.settings import Settings, load_settings
from storage.sources import Sources

MAX_JSON_BYTES = 2**20
_CHECKED_SECONDS = 2.0  # /readyz takes no key, and its checks write to the store
_EVERYWHERE = problems.declared(401, 422, 503)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Connects to nothing yet: the database and the store may come up later."""
    settings = settings or load_settings()
    configure_logging(settings.log_format)
    app = FastAPI(
        title="maskmill",
        version=code_version(),
        summary="Instance masks for whole image datasets from prompts you can name.",
        lifespan=_lifespan,
    )
    app.state.context = _context(settings)
    for router in (jobs, results, datasets, keys, models):
        app.include_router(router, dependencies=[Depends(caller)], responses=_EVERYWHERE)
    app.include_router(downloads)
    app.include_router(operations.router)
    app.add_middleware(BodyLimit, json_bytes=MAX_JSON_BYTES, upload_bytes=settings.max_upload_bytes)
    app.add_middleware(RequestLog)
    problems.install_problem_handlers(app)
    _declare_problem_type(app)
    return app


def _context(settings: Settings) -> Context:
    database = Database(settings.database_url.get_secret_value())
    store = open_store(settings.object_store, settings=settings)
    return Context(
        settings=settings,
        database=database,
        store=store,
        sources=Sources.from_settings(settings),
        checks=RecentChecks(
            lambda: operations.checked(settings, database, store), seconds=_CHECKED_SECONDS
        ),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.context.sources.close()
    app.state.context.database.dispose()


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
