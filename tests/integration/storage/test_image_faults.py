"""An image whose store, or web server, misbehaves: it comes in the end, or has the right code."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from domain.errors import ImageError, ImageErrorCode
from storage import s3_store
from storage.fetching import FETCH_RETRIES
from storage.guarded_fetch import GuardedFetcher
from storage.local_store import LocalStore
from storage.object_store import BadCredentials, ObjectStore, StoreUnavailable
from storage.s3_store import S3Store, s3_client
from storage.sources import Sources
from tests.integration.storage.bad_pages import CONTENT, failing_first, refusing, stalled, truncated
from tests.integration.storage.web_server import Request, WebServer, at_most, serving

SECONDS = 1.5  # for one image

pytestmark = pytest.mark.usefixtures("s3_environment")


class Hurry:
    """A fetch that never waits, and notes what it is told."""

    def __init__(self) -> None:
        self.expected: list[int] = []
        self.slowed = 0
        self.tries: list[int] = []

    def expect(self, size: int) -> None:
        self.expected.append(size)

    def slow_down(self) -> None:
        self.slowed += 1

    def back_off(self, *, tries: int) -> None:
        self.tries.append(tries)


def _reset(request: Request) -> None:
    request.connection.close()
    request.hang_up()


def _silent(request: Request) -> None:
    request.server.over.wait(5)
    request.hang_up()


def _dripping(request: Request) -> None:
    request.answer(200, b"", Content_Length=str(len(CONTENT)))
    request.drip(b"0", every_seconds=0.05, times=len(CONTENT))


Read = Callable[[WebServer, Hurry], bytes]


@pytest.fixture(params=["s3", "http"])
def read(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Read]:
    """Reads one image, over either protocol."""
    monkeypatch.setattr(s3_store, "_READING_SECONDS", SECONDS / 3)
    open_ones: list[Sources] = []

    def once(server: WebServer, fetch: Hurry) -> bytes:
        sources = sources_at(server)
        open_ones.append(sources)
        uri = "s3://theirs/a.png" if request.param == "s3" else f"{server.url}/a.png"
        return sources.read_image(uri, own=LocalStore(tmp_path), local_root=None, fetch=fetch)

    yield once
    for sources in open_ones:
        sources.close()


def sources_at(server: WebServer, *, seconds: float = SECONDS) -> Sources:
    sources = Sources(
        allowed_sources=["s3://theirs"],
        allowed_outputs=[],
        fetcher=GuardedFetcher([server.host]),
        max_image_bytes=10**6,
        fetch_seconds=seconds,
        s3_endpoint_url=server.url,
    )
    sources.store_for("s3://theirs/a")  # its clients take half a second to make
    return sources


def retries(reason: str) -> float:
    (metric,) = FETCH_RETRIES.collect()
    return next(s.value for s in metric.samples if s.labels["reason"] == reason)


PASSING = {
    "SlowDown": (refusing(503, "SlowDown"), "overloaded"),
    "too many requests": (refusing(429, "TooManyRequests"), "overloaded"),
    "an internal error": (refusing(500, "InternalError"), "unavailable"),
    "a reset": (_reset, "unavailable"),
    "a truncated body": (truncated, "unavailable"),
    "silence": (_silent, "timeout"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again_until_the_image_is_there(read: Read, fault: str) -> None:
    bad, reason = PASSING[fault]
    times = 1 if reason == "timeout" else 3
    before, fetch = retries(reason), Hurry()
    with serving(failing_first(bad, times=times)) as server, at_most(20):
        assert read(server, fetch) == CONTENT
        assert len(server.seen) == times + 1
    assert fetch.tries == list(range(1, times + 1))
    assert retries(reason) == before + times
    assert fetch.slowed == (0 if reason == "unavailable" else times)
    assert fetch.expected[-1] == len(CONTENT)


LASTING = {
    "SlowDown": (refusing(503, "SlowDown"), ImageErrorCode.FETCH_ERROR, 8),
    "an internal error": (refusing(500, "InternalError"), ImageErrorCode.FETCH_ERROR, 4),
    "resets": (_reset, ImageErrorCode.FETCH_ERROR, 4),
    "truncated bodies": (truncated, ImageErrorCode.FETCH_ERROR, 4),
    "silence": (_silent, ImageErrorCode.TIMEOUT, 3),
    "a stalled body": (stalled, ImageErrorCode.TIMEOUT, 3),
    "a byte now and then": (_dripping, ImageErrorCode.TIMEOUT, 1),
    "a refusal": (refusing(403, "AccessDenied"), ImageErrorCode.FORBIDDEN, 1),
    "nothing there": (refusing(404, "NoSuchKey"), ImageErrorCode.NOT_FOUND, 1),
}


@pytest.mark.parametrize("fault", LASTING)
def test_what_lasts_is_given_up_within_the_images_time_with_the_right_code(
    read: Read, fault: str
) -> None:
    bad, code, most = LASTING[fault]
    with serving(bad) as server, at_most(20):
        with pytest.raises(ImageError) as caught:
            read(server, Hurry())
        assert caught.value.code is code
        assert 1 <= len(server.seen) <= most


@pytest.mark.parametrize("fault", ["SlowDown", "resets", "silence", "a byte now and then"])
def test_faults_of_our_own_store_are_no_images_fault(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "_READING_SECONDS", SECONDS / 3)
    with serving(LASTING[fault][0]) as server, at_most(20):
        sources = sources_at(server)
        own: ObjectStore = sources.store_for("s3://theirs/a")[0]
        with pytest.raises(StoreUnavailable):
            sources.read_image("object:a.png", own=own, local_root=None, fetch=Hurry())
        sources.close()


def test_a_body_with_the_wrong_checksum_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS sends them; other servers are not asked for checksums."""

    def wrong(request: Request) -> None:
        request.answer(200, CONTENT, x_amz_checksum_crc32="AAAAAA==")

    with serving(failing_first(wrong, times=2)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        client = s3_client(None)
        assert S3Store(client, "bucket").get("a") == CONTENT
        assert len(server.seen) == 3
        client.close()


def test_a_key_that_is_told_to_slow_down_does_not_keep_others_from_being_read() -> None:
    def page(request: Request) -> None:
        if "slow" in request.path:
            refusing(503, "SlowDown")(request)
        else:
            request.answer(200, CONTENT)

    with serving(page) as server:
        client = s3_client(server.url, attempts=3)
        store = S3Store(client, "bucket")
        failed = threading.Event()

        def ask() -> None:
            with pytest.raises(StoreUnavailable):
                store.get("slow")
            failed.set()

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        with at_most(5):
            for _ in range(60):
                assert store.get("quick") == CONTENT
        for thread in threads:
            thread.join()
        assert failed.is_set()
        client.close()


class Guard:
    """A server that takes one key only, and calls every other expired."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: Request) -> None:
        request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if f"Credential={self.key}/" in request.headers.get("Authorization", ""):
            request.answer(200, CONTENT if request.command == "GET" else b"")
        else:
            refusing(400, "ExpiredToken")(request)


@pytest.fixture(params=["a file", "a process"])
def rotate(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Puts another key where the environment says that credentials are."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    file, config = tmp_path / "credentials", tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    if request.param == "a file":
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    else:
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        program = f"import sys; sys.stdout.write(open({str(file)!r}).read())"
        (tmp_path / "program.py").write_text(program)
        config.write_text(
            f"[default]\ncredential_process = {sys.executable} {tmp_path / 'program.py'}\n"
        )

    def write(key: str) -> None:
        if request.param == "a file":
            file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n")
        else:
            answer = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": "s"}
            file.write_text(json.dumps(answer))

    return write


def test_credentials_that_change_while_a_process_lives_are_used_at_once(
    rotate: Callable[[str], None], tmp_path: Path
) -> None:
    rotate("FIRST")
    guard = Guard("FIRST")
    with serving(guard) as server:
        sources = sources_at(server, seconds=20)
        store = sources.store_for("s3://theirs/a")[0]
        own = LocalStore(tmp_path)

        def read() -> bytes:
            return sources.read_image("s3://theirs/a", own=own, local_root=None, fetch=Hurry())

        assert read() == CONTENT
        store.put("b", b"x")
        rotate("SECOND")
        guard.key = "SECOND"
        with_threads: list[bytes] = []
        threads = [threading.Thread(target=lambda: with_threads.append(read())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert with_threads == [CONTENT] * 8
        store.put("b", b"x")
        guard.key = "THIRD"
        with pytest.raises(BadCredentials):
            read()
        sources.close()


def test_credentials_are_looked_up_now_and_then_though_nobody_refuses_the_old_ones(
    rotate: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate("FIRST")
    keys: list[str] = []

    def page(request: Request) -> None:
        keys.append(request.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        request.answer(200, CONTENT)

    with serving(page) as server:
        client = s3_client(server.url)
        store = S3Store(client, "bucket")
        store.get("a")
        rotate("SECOND")
        store.get("a")
        monkeypatch.setattr("storage.s3_credentials._KEPT_SECONDS", 0.0)
        store.get("a")
        client.close()
    assert keys == ["FIRST", "FIRST", "SECOND"]
