"""Webhooks, sent to a real receiver that fails in every way."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Row, select, text, update

from domain.lifecycle import JobStatus
from domain.webhooks import MAX_ATTEMPTS, pause_seconds
from storage import jobs
from storage.database import Database
from storage.deliveries import _CLAIM, SENDING, claim_delivery
from storage.events import record_event
from storage.guarded_network import Resolve, resolve_name
from storage.jobs import NewJob
from storage.settings import Settings
from storage.tables import deliveries
from storage.tables import jobs as job_rows
from storage.transitions import move_job
from tests.canary import Canary
from tests.integration.storage.rows import add_key
from tests.integration.storage.web_server import Page, Request, serving
from tests.integration.workers.crew import open_crew
from tests.integration.workers.webhook_receiver import Receiver, answering, endless, reset, silent
from tests.services import wait_until
from workers import webhooks
from workers.webhooks import PER_HOST, WebhookSender

SIGNING_SECRET = "of this test"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=4)
    yield database
    database.dispose()


@pytest.fixture
def key_id(database: Database) -> str:
    return add_key(database)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_LOOK_SECONDS", 0.05)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=SecretStr(database_url),
        broker_url=SecretStr("redis://127.0.0.1:1/0"),
        object_store=tmp_path.as_uri(),
        signing_secret=SecretStr(SIGNING_SECRET),
    )


@contextmanager
def sending(
    settings: Settings, *allowed: str, resolve: Resolve = resolve_name
) -> Iterator[WebhookSender]:
    known = settings.model_copy(update={"allowed_hosts": list(allowed)})
    sender = WebhookSender(known, send_seconds=1.0, resolve=resolve)
    sender.start()
    try:
        yield sender
    finally:
        sender.stop()


def announce(database: Database, key_id: str, url: str | None, *, kind: str = "job.running") -> str:
    """A job that tells `url` of something; its id."""
    new = NewJob(
        owner_key_id=key_id,
        model="demo-sam3",
        floor=0.1,
        prompts=[{"text": "star"}],
        source={"type": "prefix", "uri": "s3://images/a"},
        request_sha256="0",
        webhook_url=url,
        name="week 12",
    )
    with database.begin() as connection:
        job, _ = jobs.create_job(connection, new)
        record_event(connection, job.id, kind=kind)
    return job.id


def rows(database: Database) -> list[Row[Any]]:
    with database.begin() as connection:
        return list(connection.execute(select(deliveries).order_by(deliveries.c.id)))


def row(database: Database) -> Row[Any]:
    (only,) = rows(database)
    return only


def make_due(database: Database, **values: Any) -> None:
    with database.begin() as connection:
        past = text("now() - interval '1 second'")
        connection.execute(update(deliveries).values(next_attempt_at=past, **values))


def has(database: Database, **values: Any) -> Callable[[], bool]:
    return lambda: all(getattr(row(database), name) == value for name, value in values.items())


def test_a_call_is_written_with_its_event_and_only_where_one_is_wanted(
    database: Database, key_id: str
) -> None:
    told = announce(database, key_id, "https://hooks.example/a", kind="job.paused")
    announce(database, key_id, None)
    announce(database, key_id, "https://hooks.example/b", kind="shards.planned")
    with database.begin() as connection:
        assert move_job(connection, told, to=JobStatus.FAILED)
        connection.rollback()
    with database.begin() as connection:
        assert move_job(connection, told, to=JobStatus.CANCELED)
    assert [(r.job_id, r.kind, r.attempts) for r in rows(database)] == [
        (told, "job.paused", 0),
        (told, "job.canceled", 0),
    ]
    payload = rows(database)[1].payload
    assert payload["type"] == "job.canceled"
    assert payload["timestamp"] == rows(database)[1].created_at.isoformat()
    assert payload["data"] == {
        "id": told,
        "name": "week 12",
        "status": "canceled",
        "counts": {"total": 0, "processing": 0, "succeeded": 0, "failed": 0, "canceled": 0},
        "links": {
            "self": f"/v1/jobs/{told}",
            "events": f"/v1/jobs/{told}/events",
            "errors": f"/v1/jobs/{told}/errors",
            "results": f"/v1/jobs/{told}/results",
        },
    }


def test_a_call_is_signed_with_the_secret_of_the_jobs_key(
    database: Database, key_id: str, settings: Settings
) -> None:
    receiver = Receiver()
    with serving(receiver) as server, sending(settings, server.host):
        announce(database, key_id, f"{server.url}/hook?a=b")
        wait_until(lambda: row(database).delivered_at)
        assert server.seen == ["/hook?a=b"]
    ((headers, body),) = receiver.calls
    # By hand, from the specification and what the API shows as the secret.
    derived = hmac.digest(SIGNING_SECRET.encode(), f"webhook:{key_id}".encode(), "sha256")
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(derived, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert headers["content-type"] == "application/json"
    sent = row(database)
    assert (sent.id, sent.payload) == (headers["webhook-id"], json.loads(body))
    assert (sent.attempts, sent.last_status, sent.last_error) == (1, 204, None)
    assert sent.next_attempt_at is None


def test_a_failing_receiver_is_called_again_until_it_answers_well(
    database: Database, key_id: str, settings: Settings, canary: Canary
) -> None:
    """Each failure, its line in the log, and the same id and body every time."""
    failures: list[tuple[Page, int | None, str | None]] = [
        (answering(500), 500, None),
        (answering(302, Location=f"http://127.0.0.1:{canary.port}/"), 302, None),
        (reset, None, "unavailable"),
        (silent, None, "timeout"),
        (answering(404), 404, None),
        (answering(429, Retry_After="1"), 429, None),
    ]
    receiver = Receiver(*(page for page, _, _ in failures), answering(201))
    with serving(receiver) as server, sending(settings, server.host):
        announce(database, key_id, server.url)
        for number, (_, status, error) in enumerate(failures, start=1):
            wait_until(has(database, attempts=number, last_status=status, last_error=error))
            assert row(database).delivered_at is None
            assert len(receiver.calls) == number
            make_due(database)
        wait_until(has(database, last_status=201, next_attempt_at=None))
        assert row(database).delivered_at is not None
        assert len(set(receiver.ids)) == 1
        assert len({body for _, body in receiver.calls}) == 1


def test_an_answer_that_never_ends_counts_by_its_status(
    database: Database, key_id: str, settings: Settings
) -> None:
    with serving(Receiver(endless)) as server, sending(settings, server.host):
        announce(database, key_id, server.url)
        wait_until(has(database, last_status=200))
        assert row(database).delivered_at is not None


def test_pauses_grow_as_they_should_and_the_last_failure_gives_up(
    database: Database, key_id: str, settings: Settings
) -> None:
    receiver = Receiver(*[answering(503)] * MAX_ATTEMPTS)
    with serving(receiver) as server, sending(settings, server.host):
        announce(database, key_id, server.url)
        for attempts in range(1, MAX_ATTEMPTS):
            wait_until(has(database, attempts=attempts, last_status=503))
            with database.begin() as connection:
                query = text("SELECT extract(epoch FROM next_attempt_at - now()) FROM deliveries")
                pause = float(connection.execute(query).scalar_one())
            expected = pause_seconds(attempts)
            assert expected is not None
            assert 0.8 * expected - 10 < pause <= 1.2 * expected
            make_due(database)
        wait_until(has(database, attempts=MAX_ATTEMPTS, next_attempt_at=None))
        assert (row(database).delivered_at, row(database).last_status) == (None, 503)
        assert len(receiver.calls) == MAX_ATTEMPTS


def test_a_receiver_that_is_gone_is_not_called_again(
    database: Database, key_id: str, settings: Settings
) -> None:
    receiver = Receiver(answering(410))
    with serving(receiver) as server, sending(settings, server.host):
        announce(database, key_id, server.url)
        wait_until(has(database, last_status=410, next_attempt_at=None))
        assert row(database).delivered_at is None


def test_nobody_else_may_send_what_is_being_sent_until_the_claim_runs_out(
    database: Database, key_id: str
) -> None:
    announce(database, key_id, "https://hooks.example/a")

    def claim() -> Any:
        with database.begin() as connection:
            return claim_delivery(connection, seconds=30, busy_hosts=[], busy_keys=[])

    first = claim()
    assert (first.attempts, first.host) == (1, "hooks.example")
    assert (row(database).attempts, row(database).last_error) == (1, SENDING)
    assert claim() is None
    make_due(database)
    assert (claim().id, row(database).attempts) == (first.id, 2)


def test_busy_hosts_and_keys_are_passed_over(database: Database, key_id: str) -> None:
    other = add_key(database)
    announce(database, key_id, "https://Busy.example/a")
    announce(database, other, "https://free.example:8443/?b")
    with database.begin() as connection:
        claim = claim_delivery(connection, seconds=30, busy_hosts=["busy.example"], busy_keys=[])
        assert claim is not None
        assert (claim.host, claim.key_id) == ("free.example:8443", other)
        assert claim_delivery(connection, seconds=30, busy_hosts=[], busy_keys=[key_id]) is None


def test_what_is_due_is_found_by_the_index_among_all_that_was_sent(
    database: Database, key_id: str
) -> None:
    job_id = announce(database, key_id, "https://hooks.example/a")
    values = {"seconds": 30, "busy_hosts": [], "busy_keys": [], "sending": SENDING}
    with database.begin() as connection:
        sent = "SELECT 'msg_' || n, :job, 'k', '{}', now() FROM generate_series(1, 5000) n"
        connection.execute(
            text(f"INSERT INTO deliveries (id, job_id, kind, payload, delivered_at) {sent}"),
            {"job": job_id},
        )
        connection.execute(text("ANALYZE deliveries"))
        plan = connection.execute(text(f"EXPLAIN {_CLAIM.text}"), values).scalars()
        lines = "\n".join(plan)
    assert "Index Scan using ix_deliveries_due" in lines
    assert "Seq Scan on deliveries" not in lines


def test_several_senders_send_each_call_once_and_few_at_a_time_to_one_host(
    database: Database, key_id: str, settings: Settings
) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def page(request: Request) -> None:
        nonlocal now, most
        request.rfile.read(int(request.headers["Content-Length"]))
        ids.append(request.headers["webhook-id"])
        with lock:
            now += 1
            most = max(most, now)
        request.server.over.wait(0.02)
        with lock:
            now -= 1
        request.answer(200)

    ids: list[str] = []
    with serving(page) as server:
        for _ in range(30):
            announce(database, key_id, server.url)
        with sending(settings, server.host), sending(settings, server.host):
            wait_until(lambda: all(r.delivered_at for r in rows(database)))
    assert Counter(ids) == Counter(r.id for r in rows(database))
    assert {r.attempts for r in rows(database)} == {1}
    assert 1 < most <= 2 * PER_HOST


def test_a_slow_receiver_does_not_hold_up_others(
    database: Database, key_id: str, settings: Settings
) -> None:
    slow, quick = Receiver(*[silent] * 9), Receiver()
    with serving(slow) as slow_server, serving(quick) as quick_server:
        for _ in range(9):
            announce(database, key_id, slow_server.url)
        with sending(settings, slow_server.host, quick_server.host):
            wait_until(lambda: len(slow.calls) == PER_HOST)
            announce(database, add_key(database), quick_server.url)
            wait_until(lambda: quick.calls)
            assert len(slow.calls) <= 2 * PER_HOST


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/",
        "https://[::1]:{port}/",
        "https://localhost:{port}/",
        "https://2130706433:{port}/",
        "https://[::ffff:127.0.0.1]:{port}/",
        "https://public.example:{port}/",
        "http://public.example:{port}/",
        "http://8.8.8.8:{port}/",
    ],
)
def test_addresses_that_are_not_public_are_never_called(
    database: Database, key_id: str, settings: Settings, canary: Canary, url: str
) -> None:
    """Also where they got past the check at submission: a name may lead anywhere by now."""

    def resolve(host: str) -> list[str]:
        return ["127.0.0.1"] if host == "public.example" else resolve_name(host)

    announce(database, key_id, "https://soon.example")
    with database.begin() as connection:
        connection.execute(update(job_rows).values(webhook_url=url.format(port=canary.port)))
    with sending(settings, resolve=resolve):
        wait_until(has(database, attempts=1, last_status=None, last_error="refused"))


def test_a_sender_that_is_killed_while_it_sends_is_followed_by_another(
    database: Database,
    database_url: str,
    broker_url: str,
    settings: Settings,
    key_id: str,
    tmp_path: Path,
) -> None:
    """The sender is a dispatcher as it runs in production."""
    receiver = Receiver(silent)
    with (
        serving(receiver) as server,
        open_crew(database_url, broker_url, tmp_path) as crew,
    ):
        announce(database, key_id, server.url)
        process = crew.start_dispatcher(MASKMILL_ALLOWED_HOSTS=server.host)
        wait_until(lambda: receiver.calls, seconds=60)
        process.kill()
        process.wait()
        assert (row(database).attempts, row(database).last_error) == (1, SENDING)
        make_due(database)  # the claim runs out
        with sending(settings, server.host):
            wait_until(lambda: row(database).delivered_at)
    assert row(database).attempts == 2
    assert len(receiver.calls) == 2
    assert len(set(receiver.ids)) == 1
