import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.database import Database
from storage.keys import find_key
from tests.integration.api.conftest import Api

ROUTES = [
    ("GET", "/v1/jobs"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/datasets"),
    ("POST", "/v1/datasets"),
    ("PUT", "/v1/datasets/ds_1/files/a.png"),
    ("GET", "/v1/models"),
    ("GET", "/v1/keys"),
    ("GET", "/v1/jobs/job_1/results"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "authorization", [None, "Bearer mm_wrong", "Bearer ", "Basic bWU6bWU=", "mm_x", "Bearer é"]
)
def test_nothing_under_v1_opens_without_a_key(
    api: Api, method: str, path: str, authorization: str | None
) -> None:
    headers = {"Authorization": authorization.encode("latin-1")} if authorization else {}
    answer = api.client.request(method, path, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["code"] in ("missing_key", "invalid_key")


def test_an_admin_makes_lists_and_revokes_keys_whose_secret_is_shown_once(api: Api) -> None:
    made = api.client.post("/v1/keys", json={"name": "carol"}, headers=api.admin)
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert secret.startswith("mm_")
    headers = {"Authorization": f"Bearer {secret}"}
    assert api.client.get("/v1/jobs", headers=headers).status_code == 200
    listed = api.client.get("/v1/keys", headers=api.admin)
    names = [key["name"] for key in listed.json()["data"]]
    assert sorted(names) == ["admin", "alice", "bob", "carol"]
    assert secret not in listed.text
    assert "secret" not in listed.json()["data"][0]
    path = f"/v1/keys/{made.json()['id']}"
    revoked = api.client.delete(path, headers=api.admin)
    assert revoked.status_code == 200
    assert revoked.json()["revoked_at"] is not None
    assert api.client.delete(path, headers=api.admin).json() == revoked.json()
    assert api.client.get("/v1/jobs", headers=headers).status_code == 401


def test_other_keys_may_not_manage_keys(api: Api) -> None:
    for method, path in (
        ("GET", "/v1/keys"),
        ("POST", "/v1/keys"),
        ("DELETE", f"/v1/keys/{api.alice_id}"),
    ):
        body = {"json": {"name": "mine", "is_admin": True}} if method == "POST" else {}
        answer = api.as_alice(method, path, **body)
        assert (answer.status_code, answer.json()["code"]) == (403, "admin_only")


def id_of(api: Api, name: str) -> str:
    keys = api.client.get("/v1/keys", headers=api.admin).json()["data"]
    return next(str(key["id"]) for key in keys if key["name"] == name)


def test_the_last_admin_key_stays_also_when_two_revoke_each_other(api: Api) -> None:
    made = api.client.post("/v1/keys", json={"name": "b", "is_admin": True}, headers=api.admin)
    first = id_of(api, "admin")
    other = {"Authorization": f"Bearer {made.json()['secret']}"}

    def revoke(which: tuple[str, dict[str, str]]) -> int:
        return api.client.delete(f"/v1/keys/{which[0]}", headers=which[1]).status_code

    pairs = [(first, other), (made.json()["id"], api.admin)]
    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(pool.map(revoke, pairs))
    assert statuses[0] == 200
    assert statuses[1] in (401, 409)


def test_the_last_admin_key_cannot_be_revoked(api: Api) -> None:
    own = id_of(api, "admin")
    answer = api.client.delete(f"/v1/keys/{own}", headers=api.admin)
    assert (answer.status_code, answer.json()["code"]) == (409, "last_admin_key")
    assert api.client.get("/v1/keys", headers=api.admin).status_code == 200


def test_a_key_that_does_not_exist_cannot_be_revoked(api: Api) -> None:
    for key_id in ("key_" + "0" * 26, "nonsense"):
        assert api.client.delete(f"/v1/keys/{key_id}", headers=api.admin).status_code == 404


def bootstrap(url: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "api.keys", "bootstrap"],
        env={**os.environ, "MASKMILL_DATABASE_URL": url, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_bootstrap_prints_the_first_admin_key_and_makes_no_second(database_url: str) -> None:
    first = bootstrap(database_url)
    assert first.returncode == 0, first.stderr
    assert is_admin_key(database_url, first.stdout.strip())
    second = bootstrap(database_url)
    assert second.returncode == 1
    assert second.stdout == ""
    assert "keys create" in second.stderr


def test_bootstrap_stores_a_given_key_once_and_prints_nothing(database_url: str) -> None:
    secret = "mm_0123456789abcdefghijklmnop"
    for _ in range(2):
        done = bootstrap(database_url, MASKMILL_BOOTSTRAP_KEY=secret)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert is_admin_key(database_url, secret)
    short = bootstrap(database_url, MASKMILL_BOOTSTRAP_KEY="mm_short")
    assert short.returncode == 1
    assert "mm_short" not in short.stderr


def is_admin_key(url: str, secret: str) -> bool:
    database = Database(url, pool_size=1)
    with database.begin() as connection:
        key = find_key(connection, secret)
    database.dispose()
    return key is not None and key.is_admin
