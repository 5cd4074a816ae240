"""Events as they happen: server-sent events of the API under uvicorn."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.events import hub as hub_module
from api.events.hub import STREAMS_PER_KEY, Hub, Stream
from domain.lifecycle import JobStatus
from maskmill import Client
from maskmill.answers import Event
from maskmill.embedded.ports import free_port
from storage.events import record_event
from storage.keys import revoke_key
from storage.transitions import move_job
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import commit, finish, found, labelled, plan
from tests.integration.api.served import served
from tests.services import REPOSITORY, wait_until

SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    with served(create_app(api.settings)) as address:
        yield address


class Reader:
    """A stream that is read in a thread, message by message."""

    def __init__(self, url: str, **headers: str) -> None:
        self.messages: list[dict[str, str]] = []
        self.status: int | None = None
        self.has_ended = False
        self._url = url
        self._headers = headers
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with (
            httpx.Client(timeout=60) as client,
            client.stream("GET", self._url, headers={**SSE, **self._headers}) as answer,
        ):
            self.status = answer.status_code
            self.content_type = answer.headers.get("content-type", "")
            message: dict[str, str] = {}
            for line in answer.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    message[name] = value
                else:
                    self.messages.append(message)
                    message = {}
        self.has_ended = True

    def events(self) -> list[dict[str, str]]:
        return [message for message in list(self.messages) if "id" in message]

    def kinds(self) -> list[str]:
        return [message["event"] for message in self.events()]


def record(api: Api, job_id: str, *kinds: str) -> None:
    for kind in kinds:
        with api.database.begin() as connection:
            record_event(connection, job_id, kind=kind)


def end(api: Api, job_id: str) -> None:
    with api.database.begin() as connection:
        assert move_job(connection, job_id, to=JobStatus.FAILED)


def pages(api: Api, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.as_alice("GET", f"/v1/jobs/{job_id}/events").json()["data"]
    return found


def test_a_stream_brings_what_was_what_comes_and_ends_with_the_job(api: Api, url: str) -> None:
    job_id = api.create_job()["id"]
    reader = Reader(f"{url}/v1/jobs/{job_id}/events", **api.alice)
    wait_until(lambda: reader.kinds() == ["job.queued"])
    record(api, job_id, "one", "two")
    wait_until(lambda: reader.kinds() == ["job.queued", "one", "two"])
    assert not reader.has_ended
    end(api, job_id)
    wait_until(lambda: reader.has_ended)
    assert reader.kinds() == ["job.queued", "one", "two", "job.failed"]
    assert reader.content_type.startswith("text/event-stream")
    assert [json.loads(message["data"]) for message in reader.events()] == pages(api, job_id)


def test_a_stream_goes_on_after_the_event_that_is_named_by_header_or_query(
    api: Api, url: str
) -> None:
    job_id = api.create_job()["id"]
    record(api, job_id, "one", "two")
    end(api, job_id)
    path = f"{url}/v1/jobs/{job_id}/events"
    whole = Reader(path, **api.alice)
    wait_until(lambda: whole.has_ended)
    queued, one, two, last = [message["id"] for message in whole.events()]
    rest = Reader(path, **api.alice, **{"Last-Event-ID": one})
    by_query = Reader(f"{path}?after={two}", **api.alice)
    # An EventSource repeats its address and adds the header, which is the newer of the two.
    both = Reader(f"{path}?after={queued}", **api.alice, **{"Last-Event-ID": two})
    nothing = Reader(path, **api.alice, **{"Last-Event-ID": last})
    for reader in (rest, by_query, both, nothing):
        wait_until(lambda reader=reader: reader.has_ended)  # type: ignore[misc]
    assert rest.kinds() == ["two", "job.failed"]
    assert by_query.kinds() == both.kinds() == ["job.failed"]
    assert (nothing.status, nothing.messages) == (204, [])


def test_a_job_that_is_opened_again_is_streamed_to_its_last_end(api: Api, url: str) -> None:
    job_id = api.create_job()["id"]
    with api.database.begin() as connection:
        for status in (
            *(JobStatus.PLANNING, JobStatus.RUNNING, JobStatus.SUCCEEDED),
            *(JobStatus.RUNNING, JobStatus.SUCCEEDED),
        ):
            assert move_job(connection, job_id, to=status)
    reader = Reader(f"{url}/v1/jobs/{job_id}/events", **api.alice)
    wait_until(lambda: reader.has_ended)
    assert reader.kinds().count("job.succeeded") == 2


def test_progress_comes_while_counts_change_and_has_no_id(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_PROGRESS_SECONDS", 0.1)
    monkeypatch.setattr(hub_module, "_LOOK_SECONDS", 0.1)
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=2)
    reader = Reader(f"{url}/v1/jobs/{job_id}/events", **api.alice)

    def progress() -> list[dict[str, Any]]:
        shown = [m for m in list(reader.messages) if m.get("event") == "progress"]
        assert not any("id" in message for message in shown)
        return [json.loads(message["data"]) for message in shown]

    wait_until(lambda: len(progress()) == 1)
    commit(api, lease, [labelled(found(0.9)), labelled()])
    wait_until(lambda: len(progress()) == 2)
    finish(api, lease)
    wait_until(lambda: reader.has_ended)
    first, second = progress()[:2]
    shown = api.as_alice("GET", f"/v1/jobs/{job_id}").json()
    assert (first["status"], first["counts"]["processing"]) == ("running", 2)
    assert (second["counts"], second["instances"]) == (shown["counts"], 1)
    assert second["total_is_final"] is True


def test_all_streams_of_a_process_are_read_for_with_one_query(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_LOOK_SECONDS", 0.2)
    job_ids = [api.create_job()["id"] for _ in range(4)]
    readers = [
        Reader(f"{url}/v1/jobs/{job_id}/events", **api.alice)
        for job_id in job_ids
        for _ in range(3)
    ]
    for reader in readers:
        wait_until(lambda reader=reader: reader.kinds() == ["job.queued"])  # type: ignore[misc]
    rounds = _count_rounds(monkeypatch)
    began = time.monotonic()
    for job_id in job_ids:
        record(api, job_id, "news")
        end(api, job_id)
    for reader in readers:
        wait_until(lambda reader=reader: reader.has_ended)  # type: ignore[misc]
        assert reader.kinds() == ["job.queued", "news", "job.failed"]
    assert 1 <= len(rounds) <= 2 + (time.monotonic() - began) / 0.2


def _count_rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many streams each round of reading was for; there are rounds for none besides."""
    rounds: list[int] = []
    feed = Hub._feed

    async def counted(self: Hub, streams: list[Stream]) -> None:
        rounds.extend([len(streams)] if streams else [])
        await feed(self, streams)

    monkeypatch.setattr(Hub, "_feed", counted)
    return rounds


def test_a_long_past_comes_whole_and_in_order(api: Api, url: str) -> None:
    """Several pages of the reader, without a second's wait for each."""
    job_id = api.create_job()["id"]
    with api.database.begin() as connection:
        for number in range(1500):
            record_event(connection, job_id, kind=f"n{number}")
    end(api, job_id)
    reader = Reader(f"{url}/v1/jobs/{job_id}/events", **api.alice)
    wait_until(lambda: reader.has_ended)
    assert reader.kinds() == ["job.queued", *(f"n{n}" for n in range(1500)), "job.failed"]


def test_a_stream_ends_when_its_key_is_revoked(api: Api, url: str) -> None:
    job_id = api.create_job()["id"]
    reader = Reader(f"{url}/v1/jobs/{job_id}/events", **api.alice)
    wait_until(lambda: reader.kinds() == ["job.queued"])
    with api.database.begin() as connection:
        revoke_key(connection, api.alice_id)
    wait_until(lambda: reader.has_ended)


def test_a_busy_stream_brings_nothing_once_its_key_is_revoked(api: Api, url: str) -> None:
    job_id = api.create_job()["id"]
    reader = Reader(f"{url}/v1/jobs/{job_id}/events", **api.alice)
    wait_until(lambda: reader.kinds() == ["job.queued"])
    with api.database.begin() as connection:
        revoke_key(connection, api.alice_id)
        record_event(connection, job_id, kind="news")
    wait_until(lambda: reader.has_ended)
    assert reader.kinds() == ["job.queued"]


def test_a_body_that_says_it_is_too_long_is_refused_before_a_stream_begins(api: Api) -> None:
    path = f"/v1/jobs/{api.create_job()['id']}/events"
    answer = api.as_alice("GET", path, headers={**SSE, "Content-Length": "9999999"})
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")


def test_others_jobs_have_no_stream_and_strange_ids_are_refused(api: Api) -> None:
    path = f"/v1/jobs/{api.create_job()['id']}/events"
    assert api.client.get(path, headers={**api.bob, **SSE}).status_code == 404
    assert api.client.get(path, headers=SSE).status_code == 401
    for strange in ("7", "7-", "-7", "a-b", "1-2-3", f"{2**63}-1", "9" * 19 + "-1"):
        answer = api.as_alice("GET", path, headers={**SSE, "Last-Event-ID": strange})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor"), strange


def test_without_that_accept_header_it_is_the_page(api: Api) -> None:
    path = f"/v1/jobs/{api.create_job()['id']}/events"
    for accept in ("*/*", "application/json", "text/html"):
        answer = api.as_alice("GET", path, headers={"Accept": accept})
        assert [event["kind"] for event in answer.json()["data"]] == ["job.queued"]


def test_a_key_may_have_so_many_streams_and_more_when_one_is_closed(api: Api, url: str) -> None:
    job_id = api.create_job()["id"]
    path = f"{url}/v1/jobs/{job_id}/events"
    sockets = [_opened_stream(path, api.alice) for _ in range(STREAMS_PER_KEY)]
    refused = httpx.get(path, headers={**SSE, **api.alice})
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
    assert refused.headers["retry-after"] == "5"
    sockets.pop().close()
    wait_until(lambda: _status_of_stream(path, api.alice) == 200)
    for one in sockets:
        one.close()


def _opened_stream(path: str, headers: dict[str, str]) -> socket.socket:
    address = httpx.URL(path)
    opened = socket.create_connection((address.host, address.port or 80))
    lines = {**headers, **SSE, "Host": address.netloc.decode()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    opened.sendall(f"GET {address.path} HTTP/1.1\r\n{head}\r\n".encode())
    assert opened.recv(12) == b"HTTP/1.1 200"
    return opened


def _status_of_stream(path: str, headers: dict[str, str]) -> int:
    with httpx.stream("GET", path, headers={**SSE, **headers}) as answer:
        return answer.status_code


@contextmanager
def _process(api: Api, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The API as it runs in production, once it answers."""
    settings = api.settings
    variables = {
        "MASKMILL_DATABASE_URL": settings.database_url.get_secret_value(),
        "MASKMILL_BROKER_URL": settings.broker_url.get_secret_value(),
        "MASKMILL_OBJECT_STORE": settings.object_store,
        "MASKMILL_SIGNING_SECRET": settings.signing_secret.get_secret_value(),
    }
    command = [*(sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app")]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--log-level", "error"],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: _answers(port), seconds=60)
        yield process
    finally:
        process.kill()
        process.communicate()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_every_event_comes_once_and_in_order_though_the_api_is_killed(api: Api) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    job_id, other_id = api.create_job()["id"], api.create_job()["id"]
    followed: list[Event] = []

    def follow() -> None:
        with Client(address, api.alice["Authorization"].split()[1]) as client:
            for entry in client.follow(job_id):
                if isinstance(entry, Event):
                    followed.append(entry)

    def has(kind: str) -> Callable[[], bool]:
        return lambda: bool(followed) and followed[-1].kind == kind

    thread = threading.Thread(target=follow)
    with _process(api, port) as process:
        thread.start()
        record(api, job_id, "a1", "a2")
        wait_until(has("a2"))
        process.kill()
        process.wait()
    record(api, job_id, "b1", "b2")
    with _process(api, port) as process:
        record(api, job_id, "c1")
        wait_until(has("c1"))
        end(api, job_id)
        thread.join(30)
        assert not thread.is_alive()
        open_stream = Reader(f"{address}/v1/jobs/{other_id}/events", **api.alice)
        wait_until(lambda: open_stream.kinds() == ["job.queued"])
        process.terminate()
        assert process.wait(20) in {0, -signal.SIGTERM}
        wait_until(lambda: open_stream.has_ended)  # in good order, not broken off
    expected = ["job.queued", "a1", "a2", "b1", "b2", "c1", "job.failed"]
    assert [event.kind for event in followed] == expected
