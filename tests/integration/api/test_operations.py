import asyncio
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.app import create_app
from api.checks import Check, check_broker
from api.recent import Recent
from domain.prompts import ModelLimits
from storage.lane import WorkerLane
from storage.models import PublishedModel, publish_model
from storage.settings import Settings
from tests.integration.api.conftest import Api
from tests.services import wait_until


def failing(client: TestClient) -> tuple[int, set[str]]:
    answer = client.get("/readyz")
    assert answer.json()["ready"] is (answer.status_code == 200)
    return answer.status_code, {c["check"] for c in answer.json()["checks"] if not c["ok"]}


def test_the_root_says_hello_with_links_that_answer(api: Api) -> None:
    hello = api.client.get("/").json()
    assert hello["service"] == "maskmill"
    for name in ("openapi", "health", "documentation"):
        assert api.client.get(hello["links"][name]).status_code == 200


def test_a_service_with_all_its_parts_is_ready(settings: Settings, broker_url: str) -> None:
    whole = settings.model_copy(update={"broker_url": SecretStr(broker_url)})
    with TestClient(create_app(whole)) as client:
        assert failing(client) == (200, set())


def test_single_images_need_a_worker_of_their_own(settings: Settings, broker_url: str) -> None:
    whole = settings.model_copy(update={"broker_url": SecretStr(broker_url)})
    with (
        TestClient(create_app(whole)) as client,
        closing(WorkerLane(whole, name="test")) as worker,
    ):
        alone = client.get("/readiness")
        assert (alone.status_code, alone.json()) == (503, {"status": "not_ready"})
        worker.beat()
        wait_until(lambda: client.get("/readiness").json() == {"status": "ready"})


def test_readiness_names_what_is_missing(
    settings: Settings, broker_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "lost"
    folder.mkdir()
    broken = settings.model_copy(
        update={
            "database_url": SecretStr(empty_database_url),
            "broker_url": SecretStr(broker_url),
            "object_store": folder.as_uri(),
        }
    )
    with TestClient(create_app(broken)) as client:
        folder.rmdir()
        folder.write_bytes(b"in the way")
        assert failing(client) == (503, {"migrations", "object store"})
        assert client.get("/healthz").status_code == 200


def test_a_database_that_is_away_makes_answers_503_not_500(settings: Settings) -> None:
    url = "postgresql+psycopg://nobody:secret-word@127.0.0.1:1/none"
    away = settings.model_copy(update={"database_url": SecretStr(url)})
    with TestClient(create_app(away), raise_server_exceptions=False) as client:
        answer = client.get("/v1/jobs", headers={"Authorization": "Bearer mm_x"})
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert "retry-after" in answer.headers
        status, missing = failing(client)
        assert (status, missing) == (503, {"database", "broker"})
        assert "secret-word" not in client.get("/readyz").text


def test_strangers_learn_of_a_failure_only_that_it_is_and_the_log_has_the_rest(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    with TestClient(create_app(settings)) as client:
        checks = client.get("/readyz").json()["checks"]
    broker = next(check for check in checks if check["check"] == "broker")
    assert broker["detail"] == "see the service's log or `maskmill doctor`"
    assert "127.0.0.1:1" in capfd.readouterr().err


def test_readiness_is_not_asked_anew_for_everybody(settings: Settings) -> None:
    asked: list[int] = []

    async def ask() -> tuple[Check, ...]:
        asked.append(1)
        await asyncio.sleep(0)
        return (Check("x", True, ""),)

    async def scenario() -> None:
        seldom, always = Recent(ask, seconds=60), Recent(ask, seconds=0)
        answers = await asyncio.gather(*(seldom() for _ in range(50)))
        assert (len(asked), len(set(answers))) == (1, 1)
        assert [await always(), await always()] == answers[:2]
        assert len(asked) == 3
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            checks = app.state.context.checks
            assert await checks() is await checks()

    asyncio.run(scenario())


def test_a_question_that_failed_is_asked_again_and_one_that_goes_away_stops_nobody() -> None:
    failures = [RuntimeError("unforeseen")]
    may_answer = asyncio.Event()

    async def ask() -> int:
        await may_answer.wait()
        if failures:
            raise failures.pop()
        return 7

    async def scenario() -> None:
        recent = Recent(ask, seconds=60)
        first, second = (asyncio.create_task(recent()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        may_answer.set()
        with pytest.raises(RuntimeError):
            await second
        assert first.cancelled()
        assert await recent() == 7

    asyncio.run(scenario())


def test_a_broker_address_that_cannot_be_parsed_is_not_repeated(settings: Settings) -> None:
    url = SecretStr("redis://:pass/word@127.0.0.1:6379/0")
    check = check_broker(settings.model_copy(update={"broker_url": url}))
    assert (check.ok, check.detail) == (False, "MASKMILL_BROKER_URL cannot be parsed")


def test_models_are_listed_with_their_limits_once_a_worker_has_said_them(api: Api) -> None:
    first = api.as_alice("GET", "/v1/models").json()["data"]
    assert first == [
        {"name": "demo-sam3", "is_default": True, "limits": None},
        {"name": "facebook/sam3", "is_default": False, "limits": None},
    ]
    limits = ModelLimits(text_tokens=32, queries=200, image_size=1008)
    with api.database.begin() as connection:
        publish_model(connection, PublishedModel("demo-sam3", limits, "{}", "0" * 64))
    shown = api.as_alice("GET", "/v1/models").json()["data"][0]
    assert shown["limits"] == {"text_tokens": 32, "queries": 200, "image_size": 1008}


def test_answers_carry_the_request_id_given_or_a_new_one(api: Api) -> None:
    given = api.client.get("/healthz", headers={"x-request-id": "trace-1"})
    assert given.headers["x-request-id"] == "trace-1"
    odd = api.client.get("/healthz", headers={"x-request-id": "a b\tc"})
    assert odd.headers["x-request-id"] not in ("", "a b\tc")


def test_an_unforeseen_error_is_a_problem_without_internals_and_is_logged(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    app = create_app(settings.model_copy(update={"log_format": "json"}))
    key = "mm_never-to-be-logged"

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("inner secret")

    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/broken", headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "inner secret" not in answer.text
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    failed = next(line for line in lines if line["event"] == "request.failed")
    assert "inner secret" in failed["exception"]
    assert failed["request_id"] == answer.headers["x-request-id"]
    assert key not in json.dumps(lines)


def test_the_doctor_checks_without_a_running_api(settings: Settings, broker_url: str) -> None:
    good = doctor(settings, broker_url)
    assert good.returncode == 0, good.stdout + good.stderr
    names = [json.loads(line)["check"] for line in good.stdout.splitlines()]
    assert names == ["database", "migrations", "broker", "object store", "disk"]
    bad = doctor(settings, "redis://127.0.0.1:1/0")
    assert bad.returncode == 1
    broker = next(c for c in map(json.loads, bad.stdout.splitlines()) if c["check"] == "broker")
    assert broker["ok"] is False
    assert "MASKMILL_BROKER_URL" in broker["mend"]


def doctor(settings: Settings, broker_url: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "MASKMILL_DATABASE_URL": settings.database_url.get_secret_value(),
        "MASKMILL_BROKER_URL": broker_url,
        "MASKMILL_OBJECT_STORE": settings.object_store,
        "MASKMILL_SIGNING_SECRET": "x",
    }
    return subprocess.run(
        [sys.executable, "-m", "api.doctor"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
