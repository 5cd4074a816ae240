"""What a browser has already is not sent again (RFC 9110, 13.1.2)."""

import hashlib
from collections.abc import Mapping

from fastapi import Request, Response


def etag_of(*parts: bytes | str) -> str:
    """Of what the answer depends on."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    return f'"{digest.hexdigest()[:32]}"'


def known_etags(request: Request) -> frozenset[str]:
    """Of what the browser has."""
    given = request.headers.get("if-none-match", "")
    return frozenset(tag.strip().removeprefix("W/") for tag in given.split(","))


def not_modified(etag: str, headers: Mapping[str, str]) -> Response:
    return Response(status_code=304, headers={**headers, "ETag": etag})
