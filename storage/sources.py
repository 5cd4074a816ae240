"""What a job may read and write, and how an image's address becomes its bytes."""

import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from domain import links
from domain.errors import ImageError, ImageErrorCode, InvalidRequest
from domain.fetching import Fetch, LoneFetch
from storage.fetching import fetched
from storage.guarded_fetch import FetchFailed, FetchFailure, FetchRefused, GuardedFetcher
from storage.local_store import LocalStore
from storage.object_store import (
    BadCredentials,
    ObjectForbidden,
    ObjectNotFound,
    ObjectStore,
    ObjectTooLarge,
    StoreTimeout,
    StoreUnavailable,
    split_s3_uri,
)
from storage.reading import Reading
from storage.s3_store import S3Store, shared_s3_store
from storage.settings import Settings

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")  # RFC 3986, 3.1
# The source of benchmarks and tests: `null://1000` is 1,000 images without a byte. Only where the
# operator lists it.
NULL_SOURCE = "null://"
_MAX_NULL_IMAGES = 10**9
_FETCH_CODES = {
    FetchFailure.NOT_FOUND: ImageErrorCode.NOT_FOUND,
    FetchFailure.FORBIDDEN: ImageErrorCode.FORBIDDEN,
    FetchFailure.TOO_LARGE: ImageErrorCode.TOO_LARGE,
    FetchFailure.TIMEOUT: ImageErrorCode.TIMEOUT,
}
_REFUSALS = {FetchFailure.FORBIDDEN, FetchFailure.REJECTED}  # how servers meet expired links


@dataclass(frozen=True, slots=True)
class Base:
    """Where relative references of a manifest or COCO file start.

    `root` is what they cannot leave: `s3://bucket/`, `object:datasets/ID/` or `local:`.
    `folder` is the file's own folder below it. Leaving that folder is fine: on S3 the
    operator's list decides when the image is read.
    """

    root: str
    folder: str = ""

    @classmethod
    def of_s3_file(cls, uri: str) -> "Base":
        bucket, key = split_s3_uri(uri)
        return cls(f"s3://{bucket}/", posixpath.dirname(key))


def resolve_reference(reference: str, *, base: Base) -> str:
    """The URI of an image that a user named; `ImageError` (forbidden) for what no user may name.

    s3, http, https and null addresses are taken as they are and judged when they are read.
    Everything else is relative to `base`; a file name with a colon is written `./a:b.jpg`
    (RFC 3986, 4.2).
    """
    scheme = _SCHEME.match(reference)
    if scheme:
        name = scheme[1].lower()
        if name not in {"s3", "http", "https", "null"}:
            raise _forbidden(f"{name}: addresses are not read; use s3, https or a relative path")
        return name + reference[len(name) :]
    if reference.startswith("/"):
        raise _forbidden("absolute paths are not read")
    path = posixpath.normpath(posixpath.join(base.folder, reference))
    if path == ".." or path.startswith("../") or "\0" in path:
        raise _forbidden("the path leads out of the dataset")
    return base.root + path


def null_images(uri: str) -> int | None:
    """Of `null://COUNT`, the count; None for an address of another kind."""
    if not uri.startswith(NULL_SOURCE):
        return None
    count = uri.removeprefix(NULL_SOURCE)
    if not re.fullmatch("[0-9]{1,10}", count) or not 1 <= int(count) <= _MAX_NULL_IMAGES:
        raise InvalidRequest("invalid_uri", f"not null:// and a count up to {_MAX_NULL_IMAGES}")
    return int(count)


class Sources:
    """The operator's lists and the guarded fetcher of a process. Thread safe."""

    def __init__(
        self,
        *,
        allowed_sources: Sequence[str],
        allowed_outputs: Sequence[str],
        fetcher: GuardedFetcher,
        max_image_bytes: int,
        fetch_seconds: float = 30.0,
        s3_endpoint_url: str | None = None,
    ) -> None:
        self._allows_null = NULL_SOURCE in allowed_sources
        folders = (uri for uri in allowed_sources if uri != NULL_SOURCE)
        self._allowed_sources = list(map(_folder, folders))
        self._allowed_outputs = list(map(_folder, allowed_outputs))
        self._fetcher = fetcher
        self._max_image_bytes = max_image_bytes
        self._fetch_seconds = fetch_seconds
        self._s3_endpoint_url = s3_endpoint_url

    @classmethod
    def from_settings(cls, settings: Settings) -> "Sources":
        return cls(
            allowed_sources=settings.allowed_sources,
            allowed_outputs=settings.allowed_outputs,
            fetcher=GuardedFetcher(settings.allowed_hosts),
            max_image_bytes=settings.max_image_bytes,
            fetch_seconds=settings.fetch_seconds,
            s3_endpoint_url=settings.s3_endpoint_url,
        )

    def close(self) -> None:
        self._fetcher.close()

    def check_source(self, uri: str) -> None:
        if self._allows_null and null_images(uri):
            return
        if not _is_listed(uri, self._allowed_sources):
            raise InvalidRequest("source_not_allowed", _not_listed(uri, "MASKMILL_ALLOWED_SOURCES"))

    def check_output(self, uri: str) -> None:
        if not _is_listed(uri, self._allowed_outputs):
            raise InvalidRequest("output_not_allowed", _not_listed(uri, "MASKMILL_ALLOWED_OUTPUTS"))

    def store_for(self, uri: str) -> tuple[S3Store, str]:
        """The bucket of an s3:// address as a store, and the key; checks no list."""
        bucket, key = split_s3_uri(uri)
        return shared_s3_store(bucket, endpoint_url=self._s3_endpoint_url), key

    def folder_for(self, uri: str) -> tuple[S3Store, str]:
        """As `store_for`, with the prefix that lists this folder: `data/`, never `database/`."""
        store, key = self.store_for(uri)
        return store, f"{key.rstrip('/')}/" if key else ""

    def read_image(
        self, uri: str, *, own: ObjectStore, local_root: Path | None, fetch: Fetch | None = None
    ) -> bytes:
        """The bytes of an image, or `ImageError`.

        `own` is the service's store, for `object:KEY`; when it is unavailable, that is a fault
        of the infrastructure and `StoreUnavailable` is raised. Any other store's is this
        image's `fetch_error` or `timeout`. `local_root` is the linked folder of `local:PATH`, if
        the job's dataset is one. `fetch` is whoever waits for the image, if others do likewise.
        """
        scheme, _, rest = uri.partition(":")

        def once(reading: Reading) -> bytes:
            if scheme == "object":
                return own.get(rest, max_bytes=self._max_image_bytes, reading=reading)
            return self._read_elsewhere(
                uri, scheme=scheme, rest=rest, local_root=local_root, reading=reading
            )

        with _image_errors(uri):
            try:
                return fetched(once, fetch=fetch or LoneFetch(), seconds=self._fetch_seconds)
            except (StoreUnavailable, ValueError) as error:
                # Without credentials every image would fail in milliseconds: the shard is tried
                # again later. ValueError: of libraries, for an address they cannot take apart.
                if isinstance(error, BadCredentials) or scheme == "object":
                    raise
                is_late = isinstance(error, StoreTimeout)
                code = ImageErrorCode.TIMEOUT if is_late else ImageErrorCode.FETCH_ERROR
                raise ImageError(code, str(error)) from error

    def _read_elsewhere(
        self, uri: str, *, scheme: str, rest: str, local_root: Path | None, reading: Reading
    ) -> bytes:
        limit = self._max_image_bytes
        if scheme == "s3" and _is_listed(uri, self._allowed_sources):
            store, key = self.store_for(uri)
            return store.get(key, max_bytes=limit, reading=reading)
        if scheme in {"http", "https"}:
            return self._fetcher.get_once(uri, max_bytes=limit, reading=reading)
        if scheme == "local" and local_root is not None:
            return LocalStore(local_root).get(rest, max_bytes=limit, reading=reading)
        if scheme == "null" and self._allows_null:
            return b""
        raise _forbidden(f"{uri[:100]!r} is not an address that may be read")


def _folder(uri: str) -> tuple[str, str]:
    bucket, key = split_s3_uri(uri)
    return bucket, key.strip("/")


def _is_listed(uri: str, listed: Sequence[tuple[str, str]]) -> bool:
    """Whether an s3:// address lies in one of the listed folders.

    S3 takes `..` in a key literally, but a server that keeps objects as files may not.
    """
    try:
        bucket, key = split_s3_uri(uri)
    except InvalidRequest:
        return False
    if {".", ".."} & set(key.split("/")):
        return False
    return any(
        bucket == listed_bucket and (not folder or key == folder or key.startswith(f"{folder}/"))
        for listed_bucket, folder in listed
    )


def _not_listed(uri: str, setting: str) -> str:
    return f"{uri[:100]!r} is not in an s3:// folder that the operator allows ({setting})"


def _forbidden(message: str) -> ImageError:
    return ImageError(ImageErrorCode.FORBIDDEN, message)


@contextmanager
def _image_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (ObjectForbidden, FetchRefused) as error:
        raise _forbidden(str(error)) from error
    except ObjectNotFound as error:
        raise ImageError(ImageErrorCode.NOT_FOUND, str(error)) from error
    except ObjectTooLarge as error:
        raise ImageError(ImageErrorCode.TOO_LARGE, str(error)) from error
    except FetchFailed as error:
        if error.kind in _REFUSALS and (ended := links.expired_at(uri, now=datetime.now(UTC))):
            raise _forbidden(f"the link expired at {ended:%Y-%m-%d %H:%M:%S} UTC") from error
        code = _FETCH_CODES.get(error.kind, ImageErrorCode.FETCH_ERROR)
        raise ImageError(code, str(error)) from error
