"""Signing in to the console, and what its cookie opens."""

import time
from http.cookies import SimpleCookie
from typing import Any

import pytest

from api import sessions
from api.results.links import ResultFileName, sign
from api.sessions import COOKIE, CSRF_HEADER, SESSION_SECONDS, new_session
from tests.integration.api.conftest import Api, job_body
from tests.integration.api.labelled import commit, finish, labelled, plan

NOBODY = "mm_of-nobody-at-all-0123456789"


def sign_in(api: Api, who: dict[str, str], **options: Any) -> Any:
    key = who["Authorization"].removeprefix("Bearer ")
    return api.client.post("/console/session", json={"api_key": key}, **options)


def token_of(api: Api) -> str:
    answer = api.client.get("/console/session")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["csrf_token"])


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_session_is_a_cookie_that_scripts_and_other_sites_cannot_have(api: Api) -> None:
    answer = sign_in(api, api.alice)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["cache-control"] == "no-store"
    cookie = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
    assert cookie["httponly"] is True
    assert (cookie["samesite"], cookie["path"]) == ("strict", "/")
    assert cookie["secure"] == ""
    assert int(cookie["max-age"]) == SESSION_SECONDS
    assert not cookie["domain"]
    assert api.alice["Authorization"].removeprefix("Bearer ") not in answer.headers["set-cookie"]


@pytest.mark.parametrize("origin", ["https://masks.example", "https://testserver"])
def test_the_cookie_stays_on_https_where_the_page_came_by_it(api: Api, origin: str) -> None:
    answer = sign_in(api, api.alice, headers={"Origin": origin})
    assert SimpleCookie(answer.headers["set-cookie"])[COOKIE]["secure"] is True


def test_the_session_says_whose_it_is(api: Api) -> None:
    assert code(api.client.get("/console/session")) == (401, "no_session")
    sign_in(api, api.alice)
    alice = api.client.get("/console/session")
    assert alice.headers["cache-control"] == "no-store"
    assert alice.json()["key_name"] == "alice"
    assert alice.json()["is_admin"] is False
    sign_in(api, api.admin)
    admin = api.client.get("/console/session").json()
    assert (admin["key_name"], admin["is_admin"]) == ("admin", True)
    assert admin["csrf_token"] != alice.json()["csrf_token"]


@pytest.mark.parametrize("key", [NOBODY, "x", "é", "mm_"])
def test_a_key_that_opens_nothing_begins_no_session(api: Api, key: str) -> None:
    answer = api.client.post("/console/session", json={"api_key": key})
    assert code(answer) == (401, "invalid_key")
    assert "set-cookie" not in answer.headers


def test_a_form_of_another_site_cannot_sign_anybody_in(api: Api) -> None:
    """It can send this without a preflight, and JSON proper only with one."""
    key = api.alice["Authorization"].removeprefix("Bearer ")
    body = f'{{"api_key": "{key}"}}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {"Content-Type": kind}
        answer = api.client.post("/console/session", content=body, headers=headers)
        assert code(answer) == (422, "invalid_request"), kind
        assert key not in answer.text
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = api.client.options("/console/session", headers=preflight)
    assert "access-control-allow-origin" not in answer.headers


def test_the_cookie_opens_what_the_key_opens_and_no_more(api: Api) -> None:
    job = api.create_job()
    sign_in(api, api.alice)
    assert [job["id"] for job in api.client.get("/v1/jobs").json()["data"]] == [job["id"]]
    assert api.client.get(f"/v1/jobs/{job['id']}").status_code == 200
    assert code(api.client.get("/v1/keys")) == (403, "admin_only")
    sign_in(api, api.bob)
    assert api.client.get("/v1/jobs").json()["data"] == []
    assert api.client.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_a_change_needs_the_token_of_this_very_session(api: Api) -> None:
    sign_in(api, api.bob)
    of_bob = token_of(api)
    sign_in(api, api.alice)
    of_alice = token_of(api)
    dataset = {"json": {"name": "week 12"}}
    for given in ({}, {CSRF_HEADER: ""}, {CSRF_HEADER: "x"}, {CSRF_HEADER: of_bob}):
        answer = api.client.post("/v1/datasets", headers=given, **dataset)
        assert code(answer) == (403, "csrf_token_missing")
    odd = api.client.post("/v1/datasets", headers={CSRF_HEADER: b"\xff\xfe"}, **dataset)  # type: ignore[dict-item]
    assert code(odd) == (403, "csrf_token_missing")
    made = api.client.post("/v1/datasets", headers={CSRF_HEADER: of_alice}, **dataset)
    assert made.status_code == 201
    assert len(api.as_alice("GET", "/v1/datasets").json()["data"]) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/jobs"),
        ("PATCH", "/v1/jobs/job_1"),
        ("POST", "/v1/jobs/job_1/cancel"),
        ("PUT", "/v1/datasets/ds_1/files/a.png"),
        ("DELETE", "/v1/keys/key_1"),
    ],
)
def test_no_method_that_changes_something_goes_without_it(api: Api, method: str, path: str) -> None:
    sign_in(api, api.admin)
    answer = api.client.request(method, path, json=job_body())
    assert code(answer) == (403, "csrf_token_missing")


def test_a_request_with_a_key_ignores_the_cookie(api: Api) -> None:
    sign_in(api, api.bob)
    made = api.as_alice("POST", "/v1/datasets", json={"name": "mine"})
    assert made.status_code == 201
    assert api.client.get("/v1/datasets").json()["data"] == []
    bad = api.client.get("/v1/jobs", headers={"Authorization": f"Bearer {NOBODY}"})
    assert code(bad) == (401, "invalid_key")


def test_a_proxys_own_password_leaves_the_cookie(api: Api) -> None:
    sign_in(api, api.alice)
    answer = api.client.get("/v1/jobs", headers={"Authorization": "Basic bWU6bWU="})
    assert answer.status_code == 200


def test_a_session_ends_with_its_key_at_once(api: Api) -> None:
    sign_in(api, api.alice)
    assert api.client.get("/v1/jobs").status_code == 200
    assert api.client.delete(f"/v1/keys/{api.alice_id}", headers=api.admin).status_code == 200
    assert code(api.client.get("/v1/jobs")) == (401, "no_session")
    assert code(api.client.get("/console/session")) == (401, "no_session")


def test_a_session_ends_after_twelve_hours(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that a browser would have kept for longer."""
    token = new_session(api.alice_id, secret="of this test").token
    cookie = {"Cookie": f"{COOKIE}={token}"}
    now = time.time()
    monkeypatch.setattr(sessions.time, "time", lambda: now + SESSION_SECONDS - 60)
    assert api.client.get("/v1/jobs", headers=cookie).status_code == 200
    monkeypatch.setattr(sessions.time, "time", lambda: now + SESSION_SECONDS + 2)
    assert code(api.client.get("/v1/jobs", headers=cookie)) == (401, "no_session")


def test_nobody_but_the_service_makes_sessions(api: Api) -> None:
    own = new_session(api.alice_id, secret="of this test").token
    payload, _, mac = own.partition(".")
    other = new_session("key_" + "0" * 26, secret="of this test").token.partition(".")[0]
    forged = [
        new_session(api.alice_id, secret="another").token,
        f"{other}.{mac}",
        payload,
        f"{payload}.",
        f"{payload}.{mac[:-2]}",
        f".{mac}",
        "",
        "é.é",
        "x" * 5000,
    ]
    for token in forged:
        headers = {"Cookie": f"{COOKIE}={token}".encode("latin-1")}
        answer = api.client.get("/v1/jobs", headers=headers)  # type: ignore[arg-type]
        assert code(answer) == (401, "no_session"), token
    assert api.client.get("/v1/jobs", headers={"Cookie": f"{COOKIE}={own}"}).status_code == 200


def test_a_download_link_is_no_session(api: Api) -> None:
    link = sign(ResultFileName(api.alice_id, "x"), int(time.time()) + 99, secret="of this test")
    answer = api.client.get("/v1/jobs", headers={"Cookie": f"{COOKIE}={link}"})
    assert code(answer) == (401, "no_session")


def test_every_sign_in_begins_another_session_whatever_cookie_there_was(api: Api) -> None:
    given = new_session(api.alice_id, secret="of this test").token
    cookie = {"Cookie": f"{COOKIE}={given}"}
    tokens = {given}
    for _ in range(2):
        answer = sign_in(api, api.alice, headers=cookie)
        tokens.add(SimpleCookie(answer.headers["set-cookie"])[COOKIE].value)
    assert len(tokens) == 3


def test_signing_out_forgets_the_cookie_and_is_no_other_sites_to_do(api: Api) -> None:
    sign_in(api, api.alice)
    assert code(api.client.delete("/console/session")) == (403, "csrf_token_missing")
    headers = {CSRF_HEADER: token_of(api)}
    assert api.client.delete("/console/session", headers=headers).status_code == 204
    assert COOKIE not in api.client.cookies
    assert code(api.client.get("/v1/jobs")) == (401, "missing_key")
    assert api.client.delete("/console/session").status_code == 204


def test_the_key_is_in_no_log(api: Api, capfd: pytest.CaptureFixture[str]) -> None:
    sign_in(api, api.alice)
    key = api.alice["Authorization"].removeprefix("Bearer ")
    for body in ({"api_key": key, "more": 1}, {"api_key": [key]}, {"api_key": key * 9}):
        assert key not in api.client.post("/console/session", json=body).text
    logged = capfd.readouterr().err
    assert "/console/session" in logged
    assert key not in logged
    assert api.client.cookies[COOKIE] not in logged


def test_events_stream_to_whoever_has_the_cookie(api: Api) -> None:
    job = api.create_job()
    lease = plan(api, job["id"], images=1)
    commit(api, lease, [labelled()])
    finish(api, lease)
    headers = {"Accept": "text/event-stream"}
    path = f"/v1/jobs/{job['id']}/events"
    assert api.client.get(path, headers=headers).status_code == 401
    sign_in(api, api.bob)
    assert api.client.get(path, headers=headers).status_code == 404
    sign_in(api, api.alice)
    answer = api.client.get(path, headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "event: job.succeeded" in answer.text
