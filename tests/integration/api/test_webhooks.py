"""Webhooks as users see them: the address, the secret, the log."""

import base64
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update

from api.app import create_app
from domain.webhooks import key_secret, signed_headers
from maskmill import Client
from storage.deliveries import Claim, claim_delivery, record_delivered, record_failure
from storage.events import record_event
from storage.settings import Settings
from storage.tables import deliveries
from tests.integration.api.conftest import Api, job_body, opened_api, settings_for
from tests.integration.api.served import served
from tests.services import REPOSITORY

URL = "https://hooks.example/maskmill?token=x"


def announced(api: Api, *kinds: str) -> str:
    job_id = str(api.create_job(webhook_url=URL)["id"])
    for kind in kinds:
        with api.database.begin() as connection:
            record_event(connection, job_id, kind=kind)
    return job_id


def claimed(api: Api) -> Claim:
    with api.database.begin() as connection:
        claim = claim_delivery(connection, seconds=30, busy_hosts=[], busy_keys=[])
    assert claim is not None
    return claim


def log(api: Api, job_id: str, **query: Any) -> Any:
    return api.as_alice("GET", f"/v1/jobs/{job_id}/deliveries", params=query).json()


def test_a_job_shows_its_webhook(api: Api) -> None:
    job = api.create_job(webhook_url=URL)
    assert job["webhook_url"] == URL
    assert job["links"]["deliveries"] == f"/v1/jobs/{job['id']}/deliveries"
    assert api.create_job()["webhook_url"] is None


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "ftp://hooks.example/",
        "hooks.example",
        "https://",
        "https://user:password@hooks.example/",
        "https://127.0.0.1/",
        "https://10.1.2.3:8443/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1./",
        "https://hooks.example:99999/",
    ],
)
def test_an_address_that_could_never_be_called_is_refused(api: Api, url: str) -> None:
    answer = api.as_alice("POST", "/v1/jobs", json=job_body(webhook_url=url))
    assert (answer.status_code, answer.json()["code"]) == (422, "webhook_refused")
    assert answer.json()["detail"].startswith("webhook_url: ")
    assert api.as_alice("GET", "/v1/jobs").json()["data"] == []


def test_hosts_that_the_operator_named_may_be_called_over_http(
    database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(database_url, tmp_path, allowed_hosts=["127.0.0.1:9000", "inside"])
    with opened_api(settings) as api:
        for url in ("http://127.0.0.1:9000/a", "https://127.0.0.1:9000/a", "http://inside/a"):
            assert api.create_job(webhook_url=url)["webhook_url"] == url
        for url in ("http://127.0.0.1:9001/a", "https://127.0.0.1/a", "http://inside.example/a"):
            answer = api.as_alice("POST", "/v1/jobs", json=job_body(webhook_url=url))
            assert answer.json()["code"] == "webhook_refused"


def test_every_key_has_its_own_secret(api: Api, settings: Settings) -> None:
    answer = api.as_alice("GET", "/v1/webhooks/secret")
    assert answer.headers["cache-control"] == "no-store"
    mine = answer.json()["secret"]
    theirs = api.client.get("/v1/webhooks/secret", headers=api.bob).json()["secret"]
    derived = key_secret(settings.signing_secret.get_secret_value(), api.alice_id)
    assert base64.b64decode(mine.removeprefix("whsec_")) == derived
    assert mine != theirs
    assert api.client.get("/v1/webhooks/secret").status_code == 401


def test_the_log_says_how_sending_went(api: Api) -> None:
    kinds = ("job.running", "job.paused", "job.failed", "job.succeeded")
    job_id = announced(api, *kinds)
    with api.database.begin() as connection:
        gone, late, well = (
            claim_delivery(connection, seconds=30, busy_hosts=[], busy_keys=[]) for _ in range(3)
        )
        assert gone
        assert late
        assert well
        record_failure(connection, gone, status=410, give_up=True)
        record_failure(connection, late, error="timeout")
        record_delivered(connection, well, status=200)
    entries = {entry["kind"]: entry for entry in log(api, job_id)["data"]}
    assert tuple(entries) == kinds
    by_id = {entry["id"]: entry for entry in entries.values()}
    shown = [
        [by_id[claim.id][name] for name in ("state", "attempts", "last_status", "last_error")]
        for claim in (gone, late, well)
    ]
    assert shown == [
        ["given_up", 1, 410, None],
        ["pending", 1, None, "timeout"],
        ["delivered", 1, 200, None],
    ]
    assert by_id[late.id]["next_attempt_at"] > by_id[late.id]["created_at"]
    assert by_id[gone.id]["next_attempt_at"] is None
    assert by_id[well.id]["delivered_at"] is not None
    assert "secret" not in json.dumps(entries)


def test_the_log_is_paged(api: Api) -> None:
    job_id = announced(api, "job.running", "job.paused", "job.succeeded")
    first = log(api, job_id, limit=2)
    rest = log(api, job_id, limit=2, cursor=first["next_cursor"])
    kinds = [entry["kind"] for entry in first["data"] + rest["data"]]
    assert kinds == ["job.running", "job.paused", "job.succeeded"]
    assert rest["next_cursor"] is None


def test_pausing_and_resuming_in_a_loop_leaves_one_call_that_was_not_sent(api: Api) -> None:
    job_id = announced(api, "job.paused")
    other_id = announced(api, "job.paused")
    sent = claimed(api)
    assert sent.payload["data"]["id"] == job_id
    for action in ("pause", "resume") * 3:
        assert api.as_alice("POST", f"/v1/jobs/{job_id}/{action}").status_code == 200
    entries = log(api, job_id)["data"]
    assert [(entry["kind"], entry["attempts"]) for entry in entries] == [
        ("job.paused", 1),
        ("job.resumed", 0),
    ]
    assert [entry["kind"] for entry in log(api, other_id)["data"]] == ["job.paused"]


def test_a_call_is_made_again_with_all_attempts_unless_it_is_being_made(api: Api) -> None:
    job_id = announced(api, "job.succeeded")
    claim = claimed(api)
    path = f"/v1/jobs/{job_id}/deliveries/{claim.id}/redeliver"
    refused = api.as_alice("POST", path)
    assert (refused.status_code, refused.json()["code"]) == (409, "delivery_under_way")
    with api.database.begin() as connection:
        record_delivered(connection, claim, status=200)
    again = api.as_alice("POST", path)
    assert again.status_code == 200
    assert (again.json()["state"], again.json()["attempts"]) == ("pending", 0)
    assert claimed(api).id == claim.id
    with api.database.begin() as connection:  # the sender dies
        past = text("now() - interval '1 second'")
        connection.execute(update(deliveries).values(next_attempt_at=past))
    assert api.as_alice("POST", path).status_code == 200


def test_others_see_no_log_and_redeliver_nothing(api: Api) -> None:
    job_id = announced(api, "job.succeeded")
    delivery_id = log(api, job_id)["data"][0]["id"]
    path = f"/v1/jobs/{job_id}/deliveries"
    assert api.client.get(path, headers=api.bob).status_code == 404
    for own in (f"{path}/{delivery_id}", f"{path}/msg_{'0' * 26}", f"{path}/x"):
        headers = api.bob if own.endswith(delivery_id) else api.alice
        assert api.client.post(f"{own}/redeliver", headers=headers).status_code == 404
    other = f"/v1/jobs/{api.create_job()['id']}/deliveries/{delivery_id}/redeliver"
    assert api.as_alice("POST", other).status_code == 404


def test_the_client_knows_secret_log_and_redelivery(api: Api) -> None:
    with (
        served(create_app(api.settings)) as url,
        Client(url, api.alice["Authorization"].split()[1]) as client,
    ):
        job = client.create_job("s3://photos/", ["star"], webhook_url=URL)
        assert job.webhook_url == URL
        with api.database.begin() as connection:
            record_event(connection, job.id, kind="job.failed")
        (delivery,) = client.deliveries(job.id)
        assert (delivery.kind, delivery.state) == ("job.failed", "pending")
        assert client.redeliver(job.id, delivery.id).state == "pending"
        secret = api.as_alice("GET", "/v1/webhooks/secret").json()["secret"]
        assert client.webhook_secret() == secret


@pytest.fixture(scope="module")
def is_genuine() -> Callable[[str, dict[str, str], bytes], bool]:
    """The function that the documentation shows."""
    document = (REPOSITORY / "docs/how-to/webhooks.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    function: Callable[[str, dict[str, str], bytes], bool] = names["is_genuine"]
    return function


def test_the_documentations_check_takes_our_calls_and_no_others(
    is_genuine: Callable[[str, dict[str, str], bytes], bool], api: Api
) -> None:
    shown = api.as_alice("GET", "/v1/webhooks/secret").json()["secret"]
    theirs = api.client.get("/v1/webhooks/secret", headers=api.bob).json()["secret"]
    secret = key_secret(api.settings.signing_secret.get_secret_value(), api.alice_id)
    body = b'{"type":"job.succeeded"}'

    def headers(age_seconds: int = 0) -> dict[str, str]:
        sent_at = int(time.time()) - age_seconds
        return signed_headers(secret, body, delivery_id="msg_1", sent_at_seconds=sent_at)

    assert is_genuine(shown, headers(), body)
    twice = {**headers(), "webhook-signature": "v1,AAAA " + headers()["webhook-signature"]}
    assert is_genuine(shown, twice, body)
    assert not is_genuine(theirs, headers(), body)
    assert not is_genuine(shown, headers(), body + b" ")
    assert not is_genuine(shown, {**headers(), "webhook-id": "msg_2"}, body)
    assert not is_genuine(shown, headers(age_seconds=400), body)
