"""Objects by key, wherever they lie: what a store must do, and how it fails."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from domain.errors import InvalidRequest
from storage.reading import Reading
from storage.settings import Settings

OCTET_STREAM = "application/octet-stream"

OnBytes = Callable[[int], None]
"""Called with a number of bytes."""


class StoreError(Exception):
    """A store did not do what was asked. The message names the key and holds no secret."""


class ObjectNotFound(StoreError):
    """No such object."""


class BucketNotFound(ObjectNotFound):
    """No such bucket."""


class ObjectForbidden(StoreError):
    """The store refuses us this key: by its rights, or because it leaves a folder's root."""


class ObjectTooLarge(StoreError):
    """The object is larger than the caller wants to hold."""


class StoreUnavailable(StoreError):
    """The store itself is at fault (time-outs, 5xx, SlowDown, credentials, a full disk), also
    after the client's own retries."""


class StoreOverloaded(StoreUnavailable):
    """The store asks for fewer requests."""


class StoreTimeout(StoreUnavailable):
    """The store does not answer, or an object's bytes do not come, in time."""


class BadCredentials(StoreUnavailable):
    """The service's own credentials are missing, wrong or out of date: no object is at fault."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size: int


class ObjectStore(Protocol):
    """Keys are relative to the store's root and use `/`. Every method raises `StoreError`s.

    Thread safe. A reader sees an object whole or not at all, also while it is overwritten.
    """

    def get(
        self, key: str, *, max_bytes: int | None = None, reading: Reading | None = None
    ) -> bytes:
        """The whole object; `ObjectTooLarge` without reading more than `max_bytes`.

        With `reading` it is tried once, in the time that is left there, and told its size.
        """

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """The object as a seekable file at position 0, whatever its size.

        From S3 it is downloaded to an unnamed temporary file first: Parquet needs to seek, and
        a connection that breaks half way is mended before the caller has read a byte.
        """

    def put(self, key: str, data: bytes, *, content_type: str = OCTET_STREAM) -> None:
        """Write or overwrite."""

    def put_file(
        self,
        key: str,
        path: Path,
        *,
        content_type: str = OCTET_STREAM,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Write or overwrite with a local file's content, in flat memory. `on_bytes` is told of
        bytes as they go, from any thread."""

    def list(self, prefix: str = "", *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects whose key starts with `prefix`, in the order of the keys' UTF-8 bytes, from
        the first key after `start_after`; read page by page as the caller goes on."""

    def delete(self, keys: Iterable[str]) -> None:
        """Keys that do not exist are no error."""

    def size(self, key: str) -> int:
        """In bytes."""

    def exists(self, key: str) -> bool: ...

    def presign(self, key: str, *, expires_seconds: int, filename: str | None = None) -> str | None:
        """A link that downloads the object (as `filename`) without credentials; None where the
        store has no such links and the API serves the bytes itself."""


def open_store(url: str, *, settings: Settings) -> ObjectStore:
    """The store at `s3://bucket/prefix` or `file:///folder` (made if missing)."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() == "s3":
        from storage.s3_store import shared_s3_store

        bucket, prefix = split_s3_uri(url)
        return shared_s3_store(
            bucket,
            prefix,
            endpoint_url=settings.s3_endpoint_url,
            public_url=settings.s3_public_url,
        )
    if scheme == "file" and rest.startswith("/"):
        from storage.local_store import LocalStore

        return LocalStore.create(Path(unquote(urlsplit(url).path)))
    raise ValueError(f"an object store is s3://bucket/prefix or file:///folder, not {url!r}")


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key. Keys are literal: nothing in them is decoded, `?` and `#` belong to them."""
    scheme, separator, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    plain = bucket.isascii() and bucket.replace("-", "").replace(".", "").replace("_", "").isalnum()
    if scheme.lower() != "s3" or not separator or not plain or len(bucket) > 255:
        raise InvalidRequest("invalid_uri", f"not an s3://bucket/key address: {uri[:100]!r}")
    return bucket, key
