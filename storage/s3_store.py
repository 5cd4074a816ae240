"""Objects in a bucket, over any S3 API."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import quote

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from storage.object_store import (
    OCTET_STREAM,
    BadCredentials,
    BucketNotFound,
    ObjectForbidden,
    ObjectInfo,
    ObjectNotFound,
    ObjectTooLarge,
    OnBytes,
    StoreError,
    StoreOverloaded,
    StoreTimeout,
    StoreUnavailable,
)
from storage.reading import Reading
from storage.s3_counts import S3_COUNTS
from storage.s3_credentials import retry_when_renewed, session_with_current_credentials

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_DELETE_BATCH = 1000  # the most that DeleteObjects takes
_SPOOLED_BYTES = 8 * 2**20  # smaller downloads stay in memory
_CHUNK_BYTES = 2**18
_BROKEN_BODY = (FlexibleChecksumError, IncompleteReadError, ResponseStreamingError)
# Refusals of ourselves rather than of the key: no reason to call every image forbidden.
_BAD_CREDENTIALS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_BAD_CREDENTIALS_OF_HEAD = {"400", "403"}  # its answer has no body that could say more
_READING_SECONDS = 10.0  # without a byte; an image is asked for again, while it has time
# Without threads: the callers are threads already, and memory stays at one part each.
_TRANSFER = TransferConfig(use_threads=False)


class _BrokenBody(StoreUnavailable):
    """The answer broke off while it was read; botocore's own retries do not cover that."""


class _StalledBody(_BrokenBody, StoreTimeout):
    """It went on too slowly."""


def s3_client(
    endpoint_url: str | None,
    *,
    attempts: int = 5,
    connect_seconds: float = 5.0,
    read_seconds: float = 30.0,
) -> "S3Client":
    """A thread-safe client with credentials from the usual places (environment, profile, role).

    `standard` retries: exponential pauses with jitter, and a budget of retries for the process.
    `adaptive` would add a rate limit over all calls of the client, so that one bucket that says
    SlowDown stalls the reading and writing of all others; botocore's documentation advises
    against it for more than one tenant. Images have a window of their own, which adapts.

    Servers other than AWS get path-style addresses, and the newer checksum headers only where
    S3 requires them: not every one of those servers knows them.
    """
    elsewhere: dict[str, Any] = {
        "s3": {"addressing_style": "path"},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=64,
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        **(elsewhere if endpoint_url else {}),
    )
    # A session of its own: boto3's default session must not be shared by threads.
    session, credentials = session_with_current_credentials()
    client = session.client("s3", endpoint_url=endpoint_url, config=config)
    S3_COUNTS.watch(client)
    if credentials is not None:
        codes = _BAD_CREDENTIALS | _BAD_CREDENTIALS_OF_HEAD
        client.meta.events.register("needs-retry.s3", retry_when_renewed(credentials, codes=codes))
    return client


@cache
def shared_s3_client(endpoint_url: str | None) -> "S3Client":
    """The process's client: making one takes a quarter of a second, and each keeps connections."""
    return s3_client(endpoint_url)


@cache
def _shared_reader(endpoint_url: str | None) -> "S3Client":
    """For images, which are tried again by those who wait for them (storage.fetching)."""
    return s3_client(endpoint_url, attempts=1, read_seconds=_READING_SECONDS)


def shared_s3_store(
    bucket: str, prefix: str = "", *, endpoint_url: str | None, public_url: str | None = None
) -> "S3Store":
    """With the process's clients."""
    return S3Store(
        shared_s3_client(endpoint_url),
        bucket,
        prefix,
        signer=shared_s3_client(public_url) if public_url else None,
        reader=_shared_reader(endpoint_url),
    )


@dataclass(frozen=True, slots=True)
class S3Store:
    """`prefix` is the folder that keys are relative to; empty for the whole bucket.

    `signer` makes the links that users follow, where they reach the server at another address.
    `reader` is the client for images, which does not try again by itself.
    """

    client: "S3Client"
    bucket: str
    prefix: str = ""
    signer: "S3Client | None" = None
    reader: "S3Client | None" = None

    def __post_init__(self) -> None:
        folder = self.prefix.strip("/")
        object.__setattr__(self, "prefix", f"{folder}/" if folder else "")

    def get(
        self, key: str, *, max_bytes: int | None = None, reading: Reading | None = None
    ) -> bytes:
        if reading is None:
            return self._get_patiently(key, max_bytes)
        with _typed_errors(key):
            answer = (self.reader or self.client).get_object(
                Bucket=self.bucket, Key=self._full(key)
            )
            with closing(answer["Body"]) as body:
                size = answer["ContentLength"]
                _check_size(key, size, max_bytes=max_bytes)
                reading.expect(size)
                return _read_in_time(key, body, size=size, reading=reading)

    @retry(
        retry=retry_if_exception_type(_BrokenBody),
        stop=stop_after_attempt(3),
        wait=wait_random_exponential(multiplier=0.1, max=2),
        reraise=True,
    )
    def _get_patiently(self, key: str, max_bytes: int | None) -> bytes:
        with _typed_errors(key):
            answer = self.client.get_object(Bucket=self.bucket, Key=self._full(key))
            with closing(answer["Body"]) as body:
                _check_size(key, answer["ContentLength"], max_bytes=max_bytes)
                return body.read()

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as spool:
            file = cast(BinaryIO, spool)
            with _typed_errors(key):
                self.client.download_fileobj(self.bucket, self._full(key), file, Config=_TRANSFER)
            file.seek(0)
            yield file

    def put(self, key: str, data: bytes, *, content_type: str = OCTET_STREAM) -> None:
        with _typed_errors(key):
            self.client.put_object(
                Bucket=self.bucket, Key=self._full(key), Body=data, ContentType=content_type
            )

    def put_file(
        self,
        key: str,
        path: Path,
        *,
        content_type: str = OCTET_STREAM,
        on_bytes: OnBytes | None = None,
    ) -> None:
        with path.open("rb") as file, _typed_errors(key):
            self.client.upload_fileobj(
                file,
                self.bucket,
                self._full(key),
                ExtraArgs={"ContentType": content_type},
                Callback=on_bytes,
                Config=_TRANSFER,
            )

    def list(self, prefix: str = "", *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        after: dict[str, Any] = {"StartAfter": self.prefix + start_after} if start_after else {}
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix, **after
        )
        with _typed_errors(prefix):
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield ObjectInfo(entry["Key"][len(self.prefix) :], entry["Size"])

    def delete(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        while batch := list(islice(remaining, _DELETE_BATCH)):
            self._delete_batch(batch)

    def _delete_batch(self, keys: Sequence[str]) -> None:
        wanted: list[Any] = [{"Key": self._full(key)} for key in keys]
        with _typed_errors(keys[0]):
            answer = self.client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": wanted, "Quiet": True}
            )
        for refused in answer.get("Errors", ()):
            raise _store_error(refused.get("Code", ""), refused.get("Key", ""), status=0)

    def size(self, key: str) -> int:
        with _typed_errors(key):
            head = self.client.head_object(Bucket=self.bucket, Key=self._full(key))
            return head["ContentLength"]

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except ObjectNotFound:
            return False
        return True

    def presign(self, key: str, *, expires_seconds: int, filename: str | None = None) -> str:
        parameters = {"Bucket": self.bucket, "Key": self._full(key)}
        if filename is not None:  # RFC 6266
            disposition = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
            parameters["ResponseContentDisposition"] = disposition
        with _typed_errors(key):
            return (self.signer or self.client).generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=expires_seconds
            )

    def _full(self, key: str) -> str:
        if not key:
            raise ObjectNotFound("the empty key names no object")
        return self.prefix + key


def _check_size(key: str, size: int, *, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        raise ObjectTooLarge(f"{key} has {size} bytes")


def _read_in_time(key: str, body: Any, *, size: int, reading: Reading) -> bytes:
    body._raw_stream = _Arriving(body._raw_stream)
    data = bytearray()
    while chunk := body.read(_CHUNK_BYTES):
        data += chunk
        if len(data) < size and reading.seconds_left() <= 0:
            raise StoreTimeout(f"{key}: the time is over with {len(data)} of {size} bytes")
    return bytes(data)


class _Arriving:
    """urllib3's answer, of which each read takes what has come, instead of waiting until it has
    as much as was asked for: otherwise a byte now and then could keep a reader for hours."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, amount: int) -> bytes:
        return cast(bytes, self._stream.read1(amount))

    def close(self) -> None:
        self._stream.close()


@contextmanager
def _typed_errors(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        raise _store_error(code, key, status=status) from error
    except _BROKEN_BODY as error:
        raise _BrokenBody(f"{key}: {type(error).__name__}") from error
    except ReadTimeoutError as error:
        raise _StalledBody(f"{key}: {type(error).__name__}") from error
    except ConnectTimeoutError as error:
        raise StoreTimeout(f"{key}: {type(error).__name__}") from error
    except (NoCredentialsError, CredentialRetrievalError) as error:
        raise BadCredentials(f"{key}: {error}") from error
    except (BotoCoreError, RetriesExceededError, S3DownloadFailedError) as error:
        raise StoreUnavailable(f"{key}: {error}") from error


def _store_error(code: str, key: str, *, status: int) -> StoreError:
    kind: type[StoreError] = StoreUnavailable
    if code == "NoSuchBucket":
        kind = BucketNotFound
    elif code in _BAD_CREDENTIALS:
        kind = BadCredentials
    elif status == 404 or code in {"NoSuchKey", "KeyTooLongError"}:
        kind = ObjectNotFound
    elif status == 403 or code == "AccessDenied":
        kind = ObjectForbidden
    elif status in {429, 503} or code.startswith("SlowDown"):
        kind = StoreOverloaded
    return kind(f"{key}: {code or status}")
