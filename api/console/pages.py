"""The page and its files, as they lie in `static`: nothing is built, nothing comes from elsewhere.

They are read anew for each request; browsers ask with the ETag and mostly get no more than a 304.
"""

import re
from pathlib import Path

from fastapi import APIRouter, Request, Response

from api.conditional import etag_of, known_etags, not_modified
from api.problems import not_found

router = APIRouter()

_STATIC = Path(__file__).parent / "static"
_PATH = re.compile(r"(?:[a-z0-9_-]{1,50}/){0,5}[a-z0-9_-][a-z0-9._-]{1,50}", re.IGNORECASE)
# Told here, since the machine's own list may say something else of them, and `nosniff` is strict.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "font-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Cache-Control": "no-cache",  # to be kept, and asked for by ETag before it is shown
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def wants_page(request: Request) -> bool:
    """Browsers say so; clients of the API take anything, or JSON."""
    return "text/html" in request.headers.get("accept", "").lower()


def page(request: Request) -> Response:
    return _answer(request, _STATIC / "index.html", {**HEADERS, "Vary": "Accept"})


@router.get("/console/static/{path:path}", include_in_schema=False)
def static_file(path: str, request: Request) -> Response:
    file = _STATIC / path
    if not _PATH.fullmatch(path) or file.suffix not in _TYPES or not file.is_file():
        raise not_found("file")
    return _answer(request, file, HEADERS)


def _answer(request: Request, file: Path, headers: dict[str, str]) -> Response:
    body = file.read_bytes()
    etag = etag_of(body)
    if etag in known_etags(request):
        return not_modified(etag, headers)
    return Response(body, media_type=_TYPES[file.suffix], headers={**headers, "ETag": etag})
