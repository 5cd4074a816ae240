"""From an image's address to its bytes, or to the code that says why not."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.errors import ImageError, ImageErrorCode
from storage.guarded_fetch import GuardedFetcher
from storage.local_store import LocalStore
from storage.object_store import BadCredentials, ObjectStore, StoreUnavailable, open_store
from storage.s3_store import S3Store, s3_client
from storage.settings import Settings
from storage.sources import Sources
from tests.integration.storage.web_server import Request, WebServer, serving
from tests.s3_server import S3Bucket

LIMIT = 1000


def _pages(request: Request) -> None:
    match request.path:
        case "/image.png":
            request.answer(200, b"from the web")
        case "/large.png":
            request.answer(200, bytes(LIMIT + 1))
        case "/slow.png":
            request.server.over.wait(5)
            request.hang_up()
        case "/redirect.png":
            request.answer(302, Location="http://localhost/")
        case path:
            request.answer(int(path.partition("?")[0].strip("/")))


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving(_pages) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path) -> ObjectStore:
    return LocalStore.create(tmp_path / "own")


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    (tmp_path / "linked").mkdir()
    return tmp_path / "linked"


@pytest.fixture
def sources(s3_bucket: S3Bucket, web: WebServer) -> Iterator[Sources]:
    sources = Sources(
        allowed_sources=[f"{s3_bucket.uri}/data", "s3://no-such-bucket"],
        allowed_outputs=[],
        fetcher=GuardedFetcher([web.host]),
        max_image_bytes=LIMIT,
        fetch_seconds=2,
        s3_endpoint_url=s3_bucket.endpoint_url,
    )
    yield sources
    sources.close()


def test_images_are_read_from_wherever_they_may_lie(
    sources: Sources, s3_bucket: S3Bucket, web: WebServer, own: ObjectStore, linked: Path
) -> None:
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="data/a?b#ä.png", Body=b"from S3")
    own.put("datasets/ds_1/a.png", b"uploaded")
    (linked / "a.png").write_bytes(b"linked")
    for uri, content in {
        f"{s3_bucket.uri}/data/a?b#ä.png": b"from S3",
        f"{web.url}/image.png": b"from the web",
        "object:datasets/ds_1/a.png": b"uploaded",
        "local:a.png": b"linked",
    }.items():
        assert sources.read_image(uri, own=own, local_root=linked) == content


CASES = [
    ("{bucket}/data/missing.png", ImageErrorCode.NOT_FOUND),
    ("{bucket}/data/large.png", ImageErrorCode.TOO_LARGE),
    ("{bucket}/data", ImageErrorCode.NOT_FOUND),
    ("{bucket}/database/secret.png", ImageErrorCode.FORBIDDEN),
    ("{bucket}/data/../database/secret.png", ImageErrorCode.FORBIDDEN),
    ("s3://other-bucket/data/a.png", ImageErrorCode.FORBIDDEN),
    ("s3://no-such-bucket/a.png", ImageErrorCode.NOT_FOUND),
    ("s3://", ImageErrorCode.FORBIDDEN),
    ("object:missing.png", ImageErrorCode.NOT_FOUND),
    ("object:large.png", ImageErrorCode.TOO_LARGE),
    ("object:../linked/a.png", ImageErrorCode.FORBIDDEN),
    ("local:missing.png", ImageErrorCode.NOT_FOUND),
    ("local:../own/large.png", ImageErrorCode.FORBIDDEN),
    ("local:/etc/passwd", ImageErrorCode.FORBIDDEN),
    ("file:///etc/passwd", ImageErrorCode.FORBIDDEN),
    ("/etc/passwd", ImageErrorCode.FORBIDDEN),
    ("etc/passwd", ImageErrorCode.FORBIDDEN),
    ("gopher://example.org/", ImageErrorCode.FORBIDDEN),
    ("", ImageErrorCode.FORBIDDEN),
    ("http://169.254.169.254/latest/meta-data/", ImageErrorCode.FORBIDDEN),
    ("http://localhost:{other_port}/", ImageErrorCode.FORBIDDEN),
    ("{web}/redirect.png", ImageErrorCode.FORBIDDEN),
    ("{web}/404", ImageErrorCode.NOT_FOUND),
    ("{web}/410", ImageErrorCode.NOT_FOUND),
    ("{web}/401", ImageErrorCode.FORBIDDEN),
    ("{web}/403", ImageErrorCode.FORBIDDEN),
    ("{web}/500", ImageErrorCode.FETCH_ERROR),
    ("{web}/418", ImageErrorCode.FETCH_ERROR),
    ("{web}/large.png", ImageErrorCode.TOO_LARGE),
    ("{web}/slow.png", ImageErrorCode.TIMEOUT),
]


@pytest.mark.parametrize(("uri", "code"), CASES)
def test_every_reason_has_its_code(
    sources: Sources,
    s3_bucket: S3Bucket,
    web: WebServer,
    own: ObjectStore,
    linked: Path,
    uri: str,
    code: ImageErrorCode,
) -> None:
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="data/large.png", Body=bytes(LIMIT + 1))
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="database/secret.png", Body=b"secret")
    own.put("large.png", bytes(LIMIT + 1))
    (linked / "a.png").write_bytes(b"linked")
    address = uri.format(bucket=s3_bucket.uri, web=web.url, other_port=web.server_port + 1)
    with pytest.raises(ImageError) as caught:
        sources.read_image(address, own=own, local_root=linked)
    assert caught.value.code is code


def test_local_addresses_need_a_linked_folder(sources: Sources, own: ObjectStore) -> None:
    with pytest.raises(ImageError) as caught:
        sources.read_image("local:a.png", own=own, local_root=None)
    assert caught.value.code is ImageErrorCode.FORBIDDEN


def test_a_name_that_does_not_resolve_is_a_fetch_error(own: ObjectStore) -> None:
    def nothing(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    sources = Sources(
        allowed_sources=[],
        allowed_outputs=[],
        fetcher=GuardedFetcher(resolve=nothing),
        max_image_bytes=LIMIT,
    )
    with pytest.raises(ImageError) as caught:
        sources.read_image("https://nowhere.example/a.png", own=own, local_root=None)
    assert caught.value.code is ImageErrorCode.FETCH_ERROR


@pytest.mark.usefixtures("s3_environment")
def test_only_the_services_own_store_may_stop_the_shard() -> None:
    """An outage of the user's bucket fails the images; one of ours is not the images' fault."""
    with serving(lambda request: request.answer(503)) as outage:
        client = s3_client(outage.url, attempts=1)
        own = S3Store(client, "own")
        sources = Sources(
            allowed_sources=["s3://theirs"],
            allowed_outputs=[],
            fetcher=GuardedFetcher(),
            max_image_bytes=LIMIT,
            s3_endpoint_url=outage.url,
        )
        with pytest.raises(StoreUnavailable):
            sources.read_image("object:a.png", own=own, local_root=None)
        with pytest.raises(ImageError) as caught:
            sources.read_image("s3://theirs/a.png", own=own, local_root=None)
        assert caught.value.code is ImageErrorCode.FETCH_ERROR
        client.close()
        sources.close()


def test_a_folder_is_listed_without_its_namesakes(sources: Sources, s3_bucket: S3Bucket) -> None:
    for key in ("data/a", "data/b/c", "database/d"):
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=key, Body=b"")
    for uri in (f"{s3_bucket.uri}/data", f"{s3_bucket.uri}/data/"):
        store, prefix = sources.folder_for(uri)
        assert [info.key for info in store.list(prefix)] == ["data/a", "data/b/c"]
    store, prefix = sources.folder_for(s3_bucket.uri)
    assert len(list(store.list(prefix))) == 3


def _settings(**values: object) -> Settings:
    secrets = dict.fromkeys(["database_url", "broker_url", "signing_secret"], "x")
    return Settings.model_validate({"object_store": "file:///x", **secrets, **values})


def test_a_store_is_opened_by_its_address(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    folder = tmp_path / "with space" / "new"
    local = open_store(folder.as_uri(), settings=_settings())
    local.put("a", b"x")
    assert (folder / "a").read_bytes() == b"x"
    settings = _settings(s3_endpoint_url=s3_bucket.endpoint_url)
    remote = open_store(f"{s3_bucket.uri}/some/prefix", settings=settings)
    remote.put("a", b"x")
    listed = s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name)["Contents"]
    assert [entry["Key"] for entry in listed] == ["some/prefix/a"]


@pytest.mark.parametrize("url", ["", "/folder", "file://host/folder", "ftp://x/y", "s3://"])
def test_an_address_that_is_no_store_is_an_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"store|address"):
        open_store(url, settings=_settings())


def test_sources_are_made_from_the_settings(own: ObjectStore, web: WebServer) -> None:
    sources = Sources.from_settings(
        _settings(allowed_sources="s3://a/b, s3://c", allowed_hosts=web.host, max_image_bytes=20)
    )
    sources.check_source("s3://c/d")
    assert sources.read_image(f"{web.url}/image.png", own=own, local_root=None) == b"from the web"
    sources.close()


def test_an_address_that_a_library_cannot_take_apart_is_that_images_error(
    sources: Sources, own: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise UnicodeError("label too long")

    monkeypatch.setattr(GuardedFetcher, "get_once", fail)
    with pytest.raises(ImageError) as caught:
        sources.read_image("http://example.org/a.png", own=own, local_root=None)
    assert caught.value.code == ImageErrorCode.FETCH_ERROR


@pytest.mark.parametrize("status", [400, 403])
def test_a_link_that_has_expired_is_forbidden_and_says_so(
    sources: Sources, web: WebServer, own: ObjectStore, status: int
) -> None:
    def read(expires: int) -> str:
        with pytest.raises(ImageError) as caught:
            link = f"{web.url}/{status}?Expires={expires}&Signature=0"
            sources.read_image(link, own=own, local_root=None)
        assert caught.value.code == ImageErrorCode.FORBIDDEN or "expired" not in str(caught.value)
        return str(caught.value)

    assert read(86400) == "the link expired at 1970-01-02 00:00:00 UTC"
    assert read(99999999999) == f"status {status}"


@pytest.mark.usefixtures("s3_environment")
def test_credentials_of_ours_that_ran_out_stop_the_shard_and_fail_no_image(
    own: ObjectStore,
) -> None:
    def expired(request: Request) -> None:
        body = b"<Error><Code>ExpiredToken</Code><Message>expired</Message></Error>"
        request.answer(400, body, **{"Content-Type": "application/xml"})

    with serving(expired) as server:
        sources = Sources(
            allowed_sources=["s3://theirs"],
            allowed_outputs=[],
            fetcher=GuardedFetcher(),
            max_image_bytes=LIMIT,
            s3_endpoint_url=server.url,
        )
        with pytest.raises(BadCredentials):
            sources.read_image("s3://theirs/a.png", own=own, local_root=None)
        sources.close()
