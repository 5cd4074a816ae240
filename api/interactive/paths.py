"""The addresses of the single-image routes, before FastAPI sees them.

Browsers of other origins may call them, without credentials. A slash too many, which clients
produce from a base address that ends in one, is 405 and never a redirect, which would drop the
body.
"""

from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api.interactive.refusals import RefusalResponse


class SingleImagePaths:
    """Which methods the routes of these routers know, by path."""

    def __init__(self, routers: Sequence[APIRouter]) -> None:
        self._routes = [
            route for router in routers for route in router.routes if isinstance(route, APIRoute)
        ]

    def methods(self, path: str) -> set[str]:
        """Of an address, slashes too many left out; empty when it is none of these."""
        tidy = _tidy(path)
        found = [route.methods or set() for route in self._routes if route.path_regex.match(tidy)]
        return {method for methods in found for method in methods}


def _tidy(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part)


class SingleImageDoor:
    """ASGI middleware around those paths alone."""

    def __init__(self, app: ASGIApp, *, paths: SingleImagePaths, origins: Sequence[str]) -> None:
        self._app = app
        self._paths = paths
        self._cross_origin = CORSMiddleware(
            self._check_method,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            allow_credentials=False,
            expose_headers=["x-request-id", "retry-after"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_ours = scope["type"] == "http" and self._paths.methods(scope["path"])
        await (self._cross_origin if is_ours else self._app)(scope, receive, send)

    async def _check_method(self, scope: Scope, receive: Receive, send: Send) -> None:
        methods = self._paths.methods(scope["path"])
        if scope["method"] in methods and scope["path"] == _tidy(scope["path"]):
            await self._app(scope, receive, send)
            return
        allowed = {"Allow": ", ".join(sorted(methods))}
        response = RefusalResponse(
            {"detail": "Method Not Allowed"}, status_code=405, headers=allowed
        )
        await response(scope, receive, send)
