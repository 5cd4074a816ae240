"""SHA-256 of files."""

import hashlib
from collections.abc import Callable
from typing import BinaryIO

_CHUNK_BYTES = 2**20


def sha256_of(file: BinaryIO, *, note: Callable[[], None] = lambda: None) -> str:
    """From where the file stands to its end, which is where it stands then. `note` is called after
    each mebibyte."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        note()
    return digest.hexdigest()
