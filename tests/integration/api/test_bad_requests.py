"""Every bad request gets a 4xx problem and leaves nothing behind."""

import json
from typing import Any

import pytest
from sqlalchemy import func, select

from api.documents import cursor_of
from domain.prompts import ModelLimits
from storage.models import PublishedModel, publish_model
from storage.tables import jobs, outbox
from tests.integration.api.conftest import Api, job_body

PREFIX = {"type": "prefix", "uri": "s3://photos/street/"}


def source(**fields: Any) -> dict[str, Any]:
    return job_body(source=fields)


BAD = {
    "no prompts": (job_body(prompts=[]), 422, "invalid_request"),
    "prompts left away": ({"source": PREFIX}, 422, "invalid_request"),
    "257 prompts": (
        job_body(prompts=[{"text": f"thing {n}"} for n in range(257)]),
        422,
        "invalid_request",
    ),
    "empty text": (job_body(prompts=[{"text": ""}]), 422, "invalid_request"),
    "blank text": (job_body(prompts=[{"text": " \t"}]), 422, "invalid_request"),
    "text of 1025 letters": (job_body(prompts=[{"text": "x" * 1025}]), 422, "invalid_request"),
    "threshold of 2": (
        job_body(prompts=[{"text": "star", "threshold": 2}]),
        422,
        "invalid_request",
    ),
    "same prompt twice": (
        job_body(prompts=[{"text": "star"}, {"text": "star", "class_name": "star"}]),
        422,
        "duplicate_prompt",
    ),
    "mistyped field in a prompt": (
        job_body(prompts=[{"text": "star", "treshold": 0.5}]),
        422,
        "invalid_request",
    ),
    "mistyped field": (job_body(flor=0.2), 422, "invalid_request"),
    "floor above 1": (job_body(floor=1.01), 422, "invalid_request"),
    "priority of 101": (job_body(priority=101), 422, "invalid_request"),
    "unknown model": (job_body(model="yolo"), 422, "unknown_model"),
    "model by a path": (job_body(model="/etc"), 422, "unknown_model"),
    "no source": ({"prompts": [{"text": "star"}]}, 422, "invalid_request"),
    "source of another type": (source(type="folder", path="/etc"), 422, "invalid_request"),
    "local file": (source(type="manifest", uri="file:///etc/passwd.txt"), 422, "invalid_request"),
    "local path": (source(type="prefix", uri="/etc"), 422, "invalid_request"),
    "linked folder's address": (source(type="prefix", uri="local:/etc"), 422, "invalid_request"),
    "metadata service": (
        source(type="prefix", uri="http://169.254.169.254/"),
        422,
        "invalid_request",
    ),
    "another bucket": (source(type="prefix", uri="s3://secrets/"), 403, "source_not_allowed"),
    "bucket by likeness": (source(type="prefix", uri="s3://photos2/"), 403, "source_not_allowed"),
    "manifest elsewhere": (
        source(type="manifest", uri="s3://secrets/a.jsonl"),
        403,
        "source_not_allowed",
    ),
    "manifest of another kind": (
        source(type="manifest", uri="s3://photos/a.xlsx"),
        422,
        "invalid_request",
    ),
    "output elsewhere": (job_body(output="s3://results/x"), 403, "output_not_allowed"),
    "local output": (job_body(output="file:///tmp/x"), 422, "invalid_request"),
    "unknown dataset": (
        source(type="dataset", id="ds_01k5a0c6w7fj4m2n9s8r3t1v5x"),
        422,
        "dataset_not_found",
    ),
    "manifest that leaves the dataset": (
        source(type="dataset", id="ds_1", manifest="../a.jsonl"),
        422,
        "invalid_request",
    ),
    "NUL in a text": (job_body(prompts=[{"text": "a\0b"}]), 422, "invalid_request"),
    "NUL in a name": (job_body(name="a\0b"), 422, "invalid_request"),
    "list for a job": ([], 422, "invalid_request"),
    "null for a job": (None, 422, "invalid_request"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_job_is_refused_and_leaves_nothing(api: Api, name: str) -> None:
    body, status, code = BAD[name]
    answer = api.as_alice("POST", "/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert nothing_is_stored(api)


RAW = {
    "not JSON": b"{",
    "not UTF-8": b'{"name": "\xff"}',
    "empty": b"",
    "NaN for a floor": json.dumps(job_body(floor=float("nan"))).encode(),
    "a number beyond all floats": b'{"floor": 1e400}',
    "such a number for an integer": b'{"priority": 1e400}',
    "an integer of 5000 digits": b'{"priority": ' + b"9" * 5000 + b"}",
    "a lone surrogate": json.dumps(job_body(name="\ud800")).encode(),
    "a lone surrogate for a field": json.dumps(job_body(**{"\udfff": 1})).encode(),
    "lists 100,000 deep": b"[" * 100_000,
    "closed lists 900 deep": b'{"name": ' + b"[" * 900 + b"]" * 900 + b"}",
    "objects 50,000 deep": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
}


@pytest.mark.parametrize("name", RAW)
def test_a_malformed_body_is_the_callers_fault(api: Api, name: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.as_alice("POST", "/v1/jobs", content=RAW[name], headers=headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert nothing_is_stored(api)


def test_a_problem_names_the_fields_and_repeats_nothing_else(api: Api) -> None:
    body = job_body(prompts=[{"text": "star"}, {"text": "x" * 2000, "threshold": 7}])
    answer = api.as_alice("POST", "/v1/jobs", json=body)
    fields = [entry["field"] for entry in answer.json()["errors"]]
    assert fields == ["body.prompts.1.text", "body.prompts.1.threshold"]
    assert "xxxx" not in answer.text


def test_a_text_longer_than_the_model_reads_is_refused_once_the_model_is_known(api: Api) -> None:
    body = job_body(prompts=[{"text": "one two three four five"}])
    assert api.as_alice("POST", "/v1/jobs", json=body).status_code == 202
    publish_whitespace_model(api, text_tokens=4)
    answer = api.as_alice("POST", "/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "prompt_too_long")
    assert "has 5 tokens" in answer.json()["detail"]


def test_a_body_above_one_mebibyte_is_too_large(api: Api) -> None:
    body = job_body(name="x" * 2**20)
    answer = api.as_alice("POST", "/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
def test_an_odd_idempotency_key_is_refused(api: Api, key: str) -> None:
    answer = api.as_alice("POST", "/v1/jobs", json=job_body(), headers={"Idempotency-Key": key})
    assert answer.status_code == 422


@pytest.mark.parametrize("cursor", ["x", "!!!", "WzFd", "W1tbW1tbW1tdXV1dXV1d", "é", "bnVsbA"])
def test_a_cursor_that_is_not_ours_is_refused(api: Api, cursor: str) -> None:
    answer = api.as_alice("GET", "/v1/jobs", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


def test_a_cursor_with_a_number_beyond_the_database_is_refused(api: Api) -> None:
    job = api.create_job()
    for cursor in ("WzFlMzBd", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTld", "WyJcdTAwMDAiXQ"):
        for path in ("/v1/jobs", f"/v1/jobs/{job['id']}/events", f"/v1/jobs/{job['id']}/errors"):
            answer = api.as_alice("GET", path, params={"cursor": cursor})
            assert 400 <= answer.status_code < 500, (cursor, path, answer.text)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/datasets", "/v1/keys"])
@pytest.mark.parametrize("text", ["\ud800", "job_\udfff", "\0"])
def test_a_cursor_whose_text_cannot_be_stored_is_refused(api: Api, path: str, text: str) -> None:
    answers = [
        api.client.get(path, params={"cursor": cursor_of(*values)}, headers=api.admin)
        for values in ((text,), (text, text))
    ]
    assert {answer.status_code for answer in answers} == {422}
    assert {answer.json()["code"] for answer in answers} == {"invalid_cursor"}


@pytest.mark.parametrize("limit", ["0", "501", "-1", "many", "1e3"])
def test_a_page_has_1_to_500_entries(api: Api, limit: str) -> None:
    assert api.as_alice("GET", "/v1/jobs", params={"limit": limit}).status_code == 422


@pytest.mark.parametrize("job_id", ["job_1", "%00", "%ff", "job_" + "z" * 26, "ds_" + "0" * 26])
def test_an_id_that_names_nothing_is_not_found(api: Api, job_id: str) -> None:
    for suffix in ("", "/events", "/errors", "/results", "/manifest"):
        answer = api.as_alice("GET", f"/v1/jobs/{job_id}{suffix}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_an_unknown_address_and_a_wrong_method_are_problems_too(api: Api) -> None:
    unknown = api.client.get("/v2/jobs")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    wrong = api.client.delete("/v1/jobs")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_key"),
        ({"Authorization": "Basic mm_x"}, "missing_key"),
        ({"Authorization": "Bearer mm_unknown"}, "invalid_key"),
    ],
)
@pytest.mark.parametrize("body", [b"{", b"[]", b"x" * 2**21])
def test_a_strangers_body_is_not_looked_at(
    api: Api, headers: dict[str, str], code: str, body: bytes
) -> None:
    typed = {**headers, "Content-Type": "application/json"}
    for path in ("/v1/jobs", "/v1/datasets", "/v1/keys"):
        answer = api.client.post(path, content=body, headers=typed)
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert answer.headers["www-authenticate"] == 'Bearer realm="maskmill"'


def nothing_is_stored(api: Api) -> bool:
    with api.database.begin() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (jobs, outbox)
        ]
    return counts == [0, 0]


def publish_whitespace_model(api: Api, *, text_tokens: int) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    limits = ModelLimits(text_tokens=text_tokens, queries=200, image_size=1008)
    with api.database.begin() as connection:
        model = PublishedModel("demo-sam3", limits, tokenizer.to_str(), "0" * 64)
        publish_model(connection, model)
