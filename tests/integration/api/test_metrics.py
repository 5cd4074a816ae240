"""/metrics, and what the log says of requests."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import text

from api import app
from api.app import create_app
from maskmill.embedded.ports import free_port
from storage.settings import Settings
from tests.integration.api.conftest import Api, opened_api
from tests.services import wait_until


@pytest.fixture
def fresh_api(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Asks the database at every scrape."""
    monkeypatch.setattr(app, "_WATCHED_SECONDS", 0.0)
    with opened_api(settings) as api:
        yield api


def scraped(client: TestClient) -> dict[str, float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_the_queue_is_shown_with_zeros_for_models_that_nobody_asks(fresh_api: Api) -> None:
    empty = scraped(fresh_api.client)
    assert empty["maskmill_database_up"] == 1
    assert empty['maskmill_shards_waiting{model="facebook/sam3"}'] == 0
    assert empty['maskmill_jobs{status="queued"}'] == 0
    assert empty["maskmill_disk_free_bytes"] > 0
    job = fresh_api.create_job()
    with fresh_api.database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO shards (job_id, number, status, first_image_index, image_count, "
                "available_at) VALUES (:id, 0, 'pending', 0, 77, now() - interval '20 s')"
            ),
            {"id": job["id"]},
        )
    shown = scraped(fresh_api.client)
    assert shown['maskmill_shards_waiting{model="demo-sam3"}'] == 1
    assert shown['maskmill_images_waiting{model="demo-sam3"}'] == 77
    assert shown['maskmill_oldest_shard_age_seconds{model="demo-sam3"}'] >= 20
    assert (shown['maskmill_jobs{status="queued"}'], shown["maskmill_unplanned_jobs"]) == (1, 1)
    assert shown["maskmill_bells"] == 1


def test_scrapes_that_follow_each_other_ask_the_database_once(api: Api) -> None:
    before = scraped(api.client)
    api.create_job()
    after = scraped(api.client)
    assert before["maskmill_bells"] == after["maskmill_bells"] == 0


def test_a_database_that_is_away_is_a_number_not_an_error(settings: Settings) -> None:
    url = SecretStr("postgresql+psycopg://nobody:secret-word@127.0.0.1:1/none")
    with TestClient(create_app(settings.model_copy(update={"database_url": url}))) as client:
        shown = scraped(client)
    assert shown["maskmill_database_up"] == 0
    assert not [name for name in shown if name.startswith("maskmill_shards")]
    assert "process_start_time_seconds" in shown


def test_requests_are_counted_by_route_and_never_by_path(api: Api) -> None:
    api.as_alice("GET", "/v1/jobs/job_1")
    api.as_alice("GET", "/v1/jobs/job_2")
    api.client.get("/no/such/path")
    api.client.request("EVADE", "/v1/jobs")
    shown = scraped(api.client)
    count = "maskmill_http_request_duration_seconds_count"
    assert shown[f'{count}{{method="GET",route="/v1/jobs/{{job_id}}",status="4xx"}}'] == 2
    assert shown[f'{count}{{method="GET",route="unknown",status="4xx"}}'] == 1
    assert [name for name in shown if 'method="other"' in name]
    assert not [name for name in shown if "job_1" in name or "such" in name or "EVADE" in name]


def test_a_request_is_one_event_with_its_key_and_its_time(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened_api(settings.model_copy(update={"log_format": "json"})) as api:
        api.as_alice("GET", "/v1/jobs/job_1?secret=in-the-query")
        api.client.get("/healthz")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    known, stranger = (line for line in lines if line["event"] == "request")
    assert (known["method"], known["route"], known["status"]) == ("GET", "/v1/jobs/{job_id}", 404)
    assert known["key"] == api.alice_id
    assert known["milliseconds"] > 0
    assert "request_id" in known
    assert (stranger["route"], stranger["key"]) == ("/healthz", None)
    assert "in-the-query" not in json.dumps(known)


def test_no_log_line_of_a_real_server_holds_a_secret(settings: Settings, tmp_path: Path) -> None:
    """Under uvicorn with its own settings, with a broker and images that cannot be reached."""
    with opened_api(settings) as api:
        key = api.alice["Authorization"].removeprefix("Bearer ")
    secrets = [key, "broker-word", "X-Amz-Signature", "image-word", "mm_wrong", "token-word"]
    secrets.append(settings.signing_secret.get_secret_value())
    image = "https://user:image-word@127.0.0.1:1/a.png?X-Amz-Signature=1"
    body = {"image": {"type": "url", "value": image}, "api_key": key}
    log = tmp_path / "log"
    with server(settings, log=log) as address, httpx.Client(base_url=address) as client:
        statuses = [
            client.get("/v1/jobs", params={"api_key": key}, headers=api.alice).status_code,
            client.get("/v1/jobs", headers={"Authorization": "Bearer mm_wrong"}).status_code,
            client.get("/v1/downloads/token-word").status_code,
            client.get("/nowhere/token-word", params={"X-Amz-Signature": "1"}).status_code,
            client.post("/sam3/embed_image", json=body).status_code,
            client.post("/sam3/embed_image", json=body, params={"api_key": key}).status_code,
            client.post("/sam3/embed_image", content=key).status_code,
        ]
    assert statuses[0] == 200
    assert min(statuses[1:]) >= 400
    said = log.read_text()
    requests = [line for line in said.splitlines() if '"event": "request"' in line]
    assert sum("/healthz" not in line for line in requests) == len(statuses)
    assert [secret for secret in secrets if secret in said] == []


@contextmanager
def server(settings: Settings, *, log: Path) -> Iterator[str]:
    port = free_port()
    environment = {
        **os.environ,
        "MASKMILL_DATABASE_URL": settings.database_url.get_secret_value(),
        "MASKMILL_BROKER_URL": "redis://:broker-word@127.0.0.1:1/0",
        "MASKMILL_OBJECT_STORE": settings.object_store,
        "MASKMILL_SIGNING_SECRET": settings.signing_secret.get_secret_value(),
        "MASKMILL_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "uvicorn", "api.app:create_app", "--factory"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port)], env=environment, stdout=file, stderr=file
        )
    try:
        wait_until(lambda: process.poll() is not None or _answers(port), seconds=120)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=10)
    except httpx.TransportError:
        return False
    return True
