"""What S3 does on a bad day, from a server that misbehaves on purpose."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from storage.object_store import (
    BucketNotFound,
    ObjectForbidden,
    ObjectNotFound,
    StoreUnavailable,
)
from storage.s3_store import S3Store, s3_client
from tests.integration.storage.bad_pages import CONTENT, failing_first, refusing, stalled, truncated
from tests.integration.storage.web_server import Page, WebServer, serving
from tests.s3_server import S3Bucket

pytestmark = pytest.mark.usefixtures("s3_environment")


@contextmanager
def _store_at(endpoint_url: str) -> Iterator[S3Store]:
    client = s3_client(endpoint_url, attempts=2, connect_seconds=0.3, read_seconds=0.3)
    try:
        yield S3Store(client, "bucket")
    finally:
        client.close()


@contextmanager
def _store(page: Page) -> Iterator[tuple[S3Store, WebServer]]:
    with serving(page) as server, _store_at(server.url) as store:
        yield store, server


@pytest.mark.parametrize("bad", [truncated, stalled])
def test_a_body_that_breaks_off_is_read_again(bad: Page) -> None:
    with _store(failing_first(bad, times=2)) as (store, server):
        assert store.get("a") == CONTENT
        assert len(server.seen) == 3


@pytest.mark.parametrize("bad", [truncated, stalled])
def test_a_body_that_always_breaks_off_makes_the_store_unavailable(bad: Page) -> None:
    with _store(bad) as (store, server):
        with pytest.raises(StoreUnavailable):
            store.get("a")
        assert len(server.seen) == 3


def test_a_download_that_always_breaks_off_makes_the_store_unavailable() -> None:
    with _store(truncated) as (store, _), pytest.raises(StoreUnavailable), store.open("a"):
        pass


def test_slow_down_is_retried_before_it_is_reported() -> None:
    with _store(failing_first(refusing(503, "SlowDown"), times=1)) as (store, server):
        assert store.get("a") == CONTENT
        assert len(server.seen) == 2
    with _store(refusing(503, "SlowDown")) as (store, server):
        with pytest.raises(StoreUnavailable, match="SlowDown"):
            store.get("a")
        assert len(server.seen) == 2


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with serving(truncated) as server:
        gone = server.url
    with _store_at(gone) as store, pytest.raises(StoreUnavailable):
        store.get("a")


CALLS: dict[str, Callable[[S3Store], object]] = {
    "get": lambda store: store.get("a"),
    "open": lambda store: store.open("a").__enter__(),
    "put": lambda store: store.put("a", b"x"),
    "list": lambda store: list(store.list()),
    "delete": lambda store: store.delete(["a"]),
    "size": lambda store: store.size("a"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_refusal_of_the_key_is_forbidden(call: str) -> None:
    with _store(refusing(403, "AccessDenied")) as (store, _), pytest.raises(ObjectForbidden):
        CALLS[call](store)


def test_a_key_refused_within_a_batch_of_deletions_is_forbidden() -> None:
    body = b"<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    with (
        _store(lambda request: request.answer(200, body)) as (store, _),
        pytest.raises(ObjectForbidden, match="a: AccessDenied"),
    ):
        store.delete(["a", "b"])


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_a_refusal_of_our_credentials_is_a_fault_of_the_store(code: str) -> None:
    with _store(refusing(403, code)) as (store, _), pytest.raises(StoreUnavailable):
        store.get("a")


def test_a_key_longer_than_s3_takes_is_not_found() -> None:
    with _store(refusing(400, "KeyTooLongError")) as (store, _), pytest.raises(ObjectNotFound):
        store.get("a" * 2000)


@pytest.mark.parametrize("call", ["get", "put", "list", "delete"])
def test_a_missing_bucket_is_not_found(s3_bucket: S3Bucket, call: str) -> None:
    with pytest.raises(BucketNotFound):
        CALLS[call](S3Store(s3_bucket.client, "no-such-bucket"))


def test_the_empty_key_is_not_found(s3_bucket: S3Bucket) -> None:
    with pytest.raises(ObjectNotFound):
        S3Store(s3_bucket.client, s3_bucket.name).get("")
