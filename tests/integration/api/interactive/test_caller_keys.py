"""Where a key may be, which of several counts, and what is said without a good one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text as sql

from maskmill.embedded.ports import free_port
from tests.integration.api.interactive.conftest import PIXEL, Interactive
from tests.services import wait_until

PATH = "/sam3/embed_image"
PATHS = [
    PATH,
    "/sam3/visual_segment",
    "/sam3/concept_segment",
    "/workflows/run",
    "/infer/workflows",
    "/team/workflows/count",
    "/infer/workflows/team/count",
]
NO_KEY = {"status": 401, "message": "Unauthorized api_key"}
BAD_KEY = {
    "status": 401,
    "message": "Unauthorized api_key. This key is not authorized for serverless inference.",
}
BAD = "mm_of-nobody"
JSON = "application/json"


def call(
    interactive: Interactive,
    path: str = PATH,
    *,
    query: str | None = None,
    header: str | None = None,
    body: Any = ...,
    content_type: str = JSON,
) -> Any:
    document = {"image": PIXEL, **({} if body is ... else {"api_key": body})}
    headers = {"Content-Type": content_type}
    if header is not None:
        headers["Authorization"] = header
    return interactive.client.post(
        path,
        params={} if query is None else {"api_key": query},
        content=json.dumps(document),
        headers=headers,
    )


def test_a_key_may_be_in_query_header_or_body(interactive: Interactive) -> None:
    key = interactive.key
    for channel in (
        {"query": key},
        {"header": f"Bearer {key}"},
        {"header": f"bEaReR  {key}"},
        {"body": key},
        {"body": key, "content_type": "Application/JSON; charset=utf-8"},
    ):
        assert call(interactive, **channel).status_code == 200, channel  # type: ignore[arg-type]
        assert interactive.worker.taken[-1].request.key_id == interactive.api.alice_id


CHANNELS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "a bad query is not made good by a header": ({"query": BAD, "header": "Bearer KEY"}, BAD_KEY),
    "nor by a body": ({"query": BAD, "body": "KEY"}, BAD_KEY),
    "a bad header is not made good by a body": (
        {"header": f"Bearer {BAD}", "body": "KEY"},
        BAD_KEY,
    ),
    "a good query makes the rest irrelevant": (
        {"query": "KEY", "header": f"Bearer {BAD}", "body": BAD},
        None,
    ),
    "a good header makes a bad body irrelevant": ({"header": "Bearer KEY", "body": 5}, None),
    "another scheme is no key": ({"header": "Basic KEY"}, NO_KEY),
    "another scheme leaves the body's": ({"header": "Basic KEY", "body": "KEY"}, None),
    "nothing": ({}, NO_KEY),
    "null in the body": ({"body": None}, NO_KEY),
    "an empty query": ({"query": "", "body": "KEY"}, BAD_KEY),
    "an empty body": ({"body": ""}, BAD_KEY),
    "a number": ({"body": 5}, BAD_KEY),
    "half a character": ({"body": "\ud800"}, BAD_KEY),
    "beyond ASCII": ({"query": "schlüssel"}, BAD_KEY),
    "a body of another type": ({"body": "KEY", "content_type": "application/x+json"}, NO_KEY),
    "a body without a type": ({"body": "KEY", "content_type": ""}, NO_KEY),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_the_highest_key_decides(interactive: Interactive, name: str) -> None:
    channels, refusal = CHANNELS[name]
    filled = {
        channel: value.replace("KEY", interactive.key) if isinstance(value, str) else value
        for channel, value in channels.items()
    }
    answer = call(interactive, **filled)
    if refusal is None:
        assert answer.status_code == 200, answer.text
    else:
        assert (answer.status_code, answer.json()) == (401, refusal)
        assert answer.headers["content-type"] == JSON


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"{", b"[]", b'{"image": 5}', b"", b'"mm_x"', b"\xff"])
def test_the_key_is_asked_for_before_the_body_is_judged(
    interactive: Interactive, path: str, body: bytes
) -> None:
    headers = {"Content-Type": JSON}
    answer = interactive.client.post(path, content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (401, NO_KEY)
    answer = interactive.client.post(f"{path}?api_key={BAD}", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (401, BAD_KEY)


def test_a_revoked_key_ends_at_once(interactive: Interactive) -> None:
    key = interactive.client.post(
        "/v1/keys", json={"name": "short"}, headers=interactive.api.admin
    ).json()
    assert call(interactive, query=key["secret"]).status_code == 200
    interactive.client.delete(f"/v1/keys/{key['id']}", headers=interactive.api.admin)
    assert call(interactive, query=key["secret"]).json() == BAD_KEY


def test_cookies_authorise_nothing(interactive: Interactive) -> None:
    headers = {"Cookie": f"api_key={interactive.key}; Authorization=Bearer {interactive.key}"}
    answer = interactive.client.post(PATH, json={"image": PIXEL}, headers=headers)
    assert answer.json() == NO_KEY


def test_clearing_wants_no_key_but_refuses_a_bad_one(interactive: Interactive) -> None:
    assert interactive.client.post("/model/clear").json() == {"models": []}
    assert interactive.post("/model/clear").json() == {"models": []}
    answer = interactive.client.post("/model/clear", json={"api_key": BAD})
    assert (answer.status_code, answer.json()) == (401, BAD_KEY)


def test_clearing_makes_a_callers_images_unreachable_and_nobody_elses(
    interactive: Interactive,
) -> None:
    lane = interactive.worker.lane
    bobs = interactive.client.get("/v1/keys", headers=interactive.api.admin).json()["data"]
    bobs_id = next(key["id"] for key in bobs if key["name"] == "bob")
    before = {key_id: lane.owner(key_id) for key_id in (interactive.api.alice_id, bobs_id)}
    interactive.post("/model/clear")
    assert lane.owner(interactive.api.alice_id) != before[interactive.api.alice_id]
    assert lane.owner(bobs_id) == before[bobs_id]


def test_no_key_is_logged(interactive: Interactive, capfd: pytest.CaptureFixture[str]) -> None:
    key = interactive.key
    for answer in (
        call(interactive, query=key),
        call(interactive, body=key),
        call(interactive, header=f"Bearer {key}"),
        interactive.client.post(f"{PATH}/?api_key={key}"),
        interactive.client.get(f"/nowhere?api_key={key}"),
    ):
        assert key not in answer.text
    lines = capfd.readouterr().err
    ours = [line for line in lines.splitlines() if "HTTP Request" not in line]  # the test's client
    assert any(PATH in line for line in ours)
    assert not any(key in line for line in ours)


def test_uvicorn_logs_no_key_either(interactive: Interactive, tmp_path: Path) -> None:
    """Its access log, which is on by default, would have whole addresses."""
    settings, port = interactive.api.settings, free_port()
    environment = {
        **os.environ,
        "MASKMILL_DATABASE_URL": settings.database_url.get_secret_value(),
        "MASKMILL_BROKER_URL": settings.broker_url.get_secret_value(),
        "MASKMILL_OBJECT_STORE": settings.object_store,
        "MASKMILL_SIGNING_SECRET": "x",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app"]
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        wait_until(lambda: b"running on" in log.read_bytes(), seconds=60)
        url = f"http://127.0.0.1:{port}{PATH}"
        answer = httpx.post(url, params={"api_key": interactive.key}, json={"image": PIXEL})
        server.terminate()
    assert answer.status_code == 200
    assert PATH in log.read_text()
    assert interactive.key not in log.read_text()


def test_the_database_keeps_no_key(interactive: Interactive) -> None:
    with interactive.api.database.begin() as connection:
        rows = connection.execute(sql("SELECT api_keys::text FROM api_keys")).scalars().all()
    assert rows
    assert not any(interactive.key in row for row in rows)
