"""Every store does the same; S3 is a real API over HTTP."""

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from storage.local_store import LocalStore
from storage.object_store import (
    ObjectForbidden,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    ObjectTooLarge,
    StoreUnavailable,
)
from storage.s3_store import S3Store
from tests.s3_server import S3Bucket


@pytest.fixture(params=["local", "s3", "s3 with a prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "local":
        return LocalStore.create(tmp_path / "objects")
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    bucket.client.put_object(Bucket=bucket.name, Key="aaa-not-ours", Body=b"x")
    prefix = "some/folder" if "prefix" in request.param else ""
    if not prefix:
        bucket.client.delete_object(Bucket=bucket.name, Key="aaa-not-ours")
    return S3Store(bucket.client, bucket.name, prefix)


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore.create(tmp_path / "objects")


def _keys(found: Iterator[ObjectInfo]) -> list[str]:
    return [info.key for info in found]


@pytest.mark.parametrize("key", ["a", "deep/er/ä ö#?%20+&.jpg", "x" * 200])
def test_what_is_put_can_be_got(store: ObjectStore, key: str) -> None:
    store.put(key, b"first")
    store.put(key, b"second", content_type="image/png")
    assert store.get(key) == b"second"
    assert store.size(key) == 6
    assert store.exists(key)
    assert list(store.list()) == [ObjectInfo(key, 6)]


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty", max_bytes=0) == b""


def test_a_missing_object_is_not_found(store: ObjectStore) -> None:
    store.put("folder/a", b"x")
    for key in ("b", "folder", "folder/b", "folder/a/b"):
        assert not store.exists(key)
        with pytest.raises(ObjectNotFound):
            store.get(key)
        with pytest.raises(ObjectNotFound):
            store.size(key)
        with pytest.raises(ObjectNotFound), store.open(key):
            pass


def test_an_object_over_the_limit_is_too_large(store: ObjectStore) -> None:
    store.put("a", bytes(1000))
    assert store.get("a", max_bytes=1000) == bytes(1000)
    with pytest.raises(ObjectTooLarge, match="1000 bytes"):
        store.get("a", max_bytes=999)


def test_a_file_can_be_put_and_opened_whatever_its_size(store: ObjectStore, tmp_path: Path) -> None:
    content = os.urandom(20 * 2**20)  # several parts on S3
    (tmp_path / "upload").write_bytes(content)
    store.put_file("big", tmp_path / "upload")
    with store.open("big") as file:
        assert file.read(10) == content[:10]
        file.seek(-10, os.SEEK_END)
        assert file.read() == content[-10:]
    assert store.get("big") == content


def test_errors_of_the_reader_of_an_open_object_are_the_readers_own(store: ObjectStore) -> None:
    store.put("a", b"x")
    with pytest.raises(FileNotFoundError), store.open("a"):
        raise FileNotFoundError


def test_listing_is_in_byte_order_over_the_whole_key(store: ObjectStore) -> None:
    keys = ["a/b", "a.txt", "a-b/c", "a0", "B", "a/ä", "a/z", "ä", "a/b2/c", "\U0001f600", "\uffee"]
    for key in keys:
        store.put(key, b"")
    assert _keys(store.list()) == sorted(keys, key=str.encode)


def test_listing_goes_on_after_any_key(store: ObjectStore) -> None:
    keys = sorted(["a.txt", "a/b", "a/b2/c", "a/b2/d", "a/c", "b", "c/d/e"], key=str.encode)
    for key in keys:
        store.put(key, b"")
    for after in [*keys, "a", "a/", "a/b2", "a/b2/cc", "c/d", "zzz"]:
        expected = [key for key in keys if key.encode() > after.encode()]
        assert _keys(store.list(start_after=after)) == expected, after
        inside = [key for key in expected if key.startswith("a/b")]
        assert _keys(store.list("a/b", start_after=after)) == inside, after


def test_a_prefix_is_a_beginning_of_the_key(store: ObjectStore) -> None:
    for key in ("data/a", "data/b", "database/c", "dat", "other/data/d"):
        store.put(key, b"")
    assert _keys(store.list("data/")) == ["data/a", "data/b"]
    assert _keys(store.list("data")) == ["data/a", "data/b", "database/c"]
    assert _keys(store.list("data/a")) == ["data/a"]
    assert _keys(store.list("data/a/")) == []
    assert _keys(store.list("nothing/here/")) == []


def _fill(store: ObjectStore, keys: list[str]) -> None:
    """Past HTTP: 2,500 requests would take longer than all other tests of this file."""
    if isinstance(store, LocalStore):
        for key in keys:
            (store.root / key).touch()
    elif isinstance(store, S3Store):
        for key in keys:
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(store.bucket, store.prefix + key, b"")


def test_listing_and_deleting_take_many_pages(store: ObjectStore) -> None:
    keys = [f"{index:05}" for index in range(2500)]
    _fill(store, keys)
    assert _keys(store.list(start_after="00009")) == keys[10:]
    store.delete(iter(keys[:2400]))
    assert _keys(store.list()) == keys[2400:]


def test_deleting_what_is_gone_is_no_error(store: ObjectStore) -> None:
    store.put("a/b", b"x")
    store.delete(["a/b", "a/b", "never/there", "a"])
    store.delete([])
    assert _keys(store.list()) == []


def test_readers_see_an_overwritten_object_whole(store: ObjectStore) -> None:
    versions = [bytes([value]) * 200_000 for value in range(12)]
    store.put("a", versions[0])
    done = threading.Event()

    def overwrite() -> None:
        try:
            for version in versions:
                store.put("a", version)
        finally:
            done.set()

    writer = threading.Thread(target=overwrite)
    writer.start()
    while not done.is_set():
        assert store.get("a") in versions
        assert _keys(store.list()) == ["a"]
    writer.join()
    assert store.get("a") == versions[-1]


def test_only_s3_has_links_of_its_own(store: ObjectStore) -> None:
    store.put("a b.json", b"{}", content_type="application/json")
    link = store.presign("a b.json", expires_seconds=60, filename='ö ".json')
    if isinstance(store, LocalStore):
        assert link is None
        return
    assert link is not None
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link
    answer = httpx.get(link)
    assert answer.content == b"{}"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%B6%20%22.json"


@pytest.mark.parametrize(
    "key", ["../outside", "a/../../outside", "/etc/passwd", "..", ".", "a/./b", "a//b", "", "a\0b"]
)
def test_no_key_leaves_the_folder(local: LocalStore, key: str) -> None:
    (local.root.parent / "outside").write_bytes(b"secret")
    with pytest.raises(ObjectForbidden):
        local.get(key)
    with pytest.raises(ObjectForbidden):
        local.put(key, b"x")
    with pytest.raises(ObjectForbidden):
        local.delete([key])
    assert (local.root.parent / "outside").read_bytes() == b"secret"


def test_links_out_of_the_folder_are_not_followed(local: LocalStore) -> None:
    outside = local.root.parent / "outside"
    outside.mkdir()
    (outside / "a").write_bytes(b"secret")
    (local.root / "file").symlink_to(outside / "a")
    (local.root / "folder").symlink_to(outside)
    for key in ("file", "folder/a"):
        with pytest.raises(ObjectForbidden):
            local.get(key)
        with pytest.raises(ObjectForbidden), local.open(key):
            pass
    with pytest.raises(ObjectForbidden):
        local.put("folder/b", b"x")
    with pytest.raises(ObjectForbidden):
        local.delete(["folder/a"])
    local.put("file", b"mine")  # replaces the link, not what it points to
    assert (outside / "a").read_bytes() == b"secret"
    assert _keys(local.list()) == ["file"]


def test_links_inside_the_folder_are_read(local: LocalStore) -> None:
    local.put("a", b"x")
    (local.root / "link").symlink_to("a")
    (local.root / "dangling").symlink_to("nothing")
    (local.root / "loop").symlink_to("loop")
    assert local.get("link") == b"x"
    assert _keys(local.list()) == ["a", "dangling", "link", "loop"]
    for key in ("dangling", "loop"):
        with pytest.raises(ObjectNotFound):
            local.get(key)


def test_a_pipe_is_refused_without_waiting_for_its_writer(local: LocalStore) -> None:
    os.mkfifo(local.root / "pipe")
    with pytest.raises(ObjectForbidden):
        local.get("pipe")


def test_a_name_that_is_not_utf8_is_listed_readably_and_not_found(local: LocalStore) -> None:
    (local.root / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    [info] = local.list()
    assert info == ObjectInfo("caf\ufffd.jpg", 1)
    with pytest.raises(ObjectNotFound):
        local.get(info.key)
    with pytest.raises(ObjectNotFound):
        local.get("lone surrogate \ud800")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux")
def test_a_failed_write_leaves_nothing_behind(local: LocalStore) -> None:
    with pytest.raises(StoreUnavailable):
        local.put_file("unread", Path("/proc/self/mem"))  # opens, and fails at the first read
    local.put("a", b"x")
    for key in ("a/b", "a/b/c"):
        with pytest.raises(ObjectForbidden, match="in the way"):
            local.put(key, b"x")
    assert [path.name for path in local.root.iterdir()] == ["a"]


def test_half_written_files_are_not_listed(local: LocalStore) -> None:
    (local.root / f".{uuid.uuid4().hex}.maskmill-partial").write_bytes(b"half")
    local.put(".hidden", b"x")
    assert _keys(local.list()) == [".hidden"]


def _exchange_after_the_check(
    monkeypatch: pytest.MonkeyPatch, exchange: Callable[[], object]
) -> None:
    """What somebody else can do to the folder between the check of a path and its opening."""
    checked = LocalStore._regular_file

    def check_then_exchange(store: LocalStore, key: str) -> Path:
        path = checked(store, key)
        exchange()
        return path

    monkeypatch.setattr(LocalStore, "_regular_file", check_then_exchange)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_a_folder_that_becomes_a_link_after_its_check_leads_nowhere(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put("folder/a", b"mine")
    outside = local.root.parent / "outside"
    outside.mkdir()
    (outside / "a").write_bytes(b"secret")

    def exchange() -> None:
        (local.root / "folder").rename(local.root / "moved")
        (local.root / "folder").symlink_to(outside)

    _exchange_after_the_check(monkeypatch, exchange)
    with pytest.raises(ObjectForbidden):
        local.get("folder/a")


def test_a_file_that_becomes_a_link_after_its_check_is_not_read(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put("a", b"mine")
    (local.root.parent / "secret").write_bytes(b"secret")

    def exchange() -> None:
        (local.root / "a").unlink()
        (local.root / "a").symlink_to(local.root.parent / "secret")

    _exchange_after_the_check(monkeypatch, exchange)
    with pytest.raises(ObjectNotFound):
        local.get("a")


def test_a_file_that_becomes_a_pipe_after_its_check_is_not_waited_for(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put("a", b"mine")

    def exchange() -> None:
        (local.root / "a").unlink()
        os.mkfifo(local.root / "a")

    _exchange_after_the_check(monkeypatch, exchange)
    with pytest.raises(ObjectForbidden):
        local.get("a")
