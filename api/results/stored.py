"""What lies in a user's own bucket may have been changed since: nothing is read unless it is what
the workers wrote."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from pydantic import ValidationError

from api.problems import ApiProblem
from domain.digests import sha256_of
from domain.result_manifest import ResultManifest
from storage import object_keys
from storage.object_store import ObjectStore, ObjectTooLarge

_MAX_MANIFEST_BYTES = 64 * 2**20


@contextmanager
def stored_part(store: ObjectStore, written: Mapping[str, Any]) -> Iterator[BinaryIO]:
    """The part that PostgreSQL describes as `written` (key, bytes, sha256).

    Raises a `result_damaged` problem; the size is asked first, so that nothing larger is fetched.
    """
    if store.size(written["key"]) != written["bytes"]:
        raise _damaged(written["key"])
    with store.open(written["key"]) as file:
        if sha256_of(file) != written["sha256"]:
            raise _damaged(written["key"])
        file.seek(0)
        yield file


def stored_manifest(store: ObjectStore, number: int) -> ResultManifest:
    """Checked for its form only, since PostgreSQL has no digest of it."""
    key = object_keys.manifest(number)
    try:
        return ResultManifest.model_validate_json(store.get(key, max_bytes=_MAX_MANIFEST_BYTES))
    except (ObjectTooLarge, ValidationError) as error:
        raise _damaged(key) from error


def _damaged(key: str) -> ApiProblem:
    return ApiProblem(409, "result_damaged", f"{key} is not what was written; the output changed.")
