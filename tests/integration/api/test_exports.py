"""Exports over REST, made by the worker's own code in this process."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from domain.annotations import failure
from domain.errors import ImageErrorCode
from storage import export_runs
from storage.export_runs import Reading
from tests.integration.api.conftest import Api, opened_api, settings_for
from tests.integration.api.labelled import commit, finish, found, labelled, plan
from workers.export_run import run_exports
from workers.runtime import Runtime, build_runtime

LABELLED = [
    labelled(found(0.9), found(0.3), found(0.8, prompt_index=1, category="star")),
    failure(ImageErrorCode.TRUNCATED, "cut"),
    labelled(),
]


@pytest.fixture
def worker(api: Api) -> Iterator[Runtime]:
    runtime = build_runtime(api.settings)
    yield runtime
    runtime.database.dispose()
    runtime.sources.close()


def finished_job(api: Api) -> str:
    job_id = str(api.create_job()["id"])
    lease = plan(api, job_id, images=len(LABELLED))
    commit(api, lease, LABELLED)
    finish(api, lease)
    return job_id


def ask(api: Api, job_id: str, **body: Any) -> Any:
    headers = body.pop("headers", {})
    body = {"format": "coco", **body}
    return api.as_alice("POST", f"/v1/jobs/{job_id}/exports", json=body, headers=headers)


def test_an_export_is_asked_for_made_and_downloaded(api: Api, worker: Runtime) -> None:
    job_id = finished_job(api)
    answer = ask(api, job_id, min_score=0.2, classes={"star": None})
    assert answer.status_code == 202
    asked = answer.json()
    assert (asked["status"], asked["files"], asked["report"]) == ("queued", None, None)
    assert asked["progress"] == {"pass_number": 0, "images_read": 0, "images_total": None}
    assert (asked["rate"], asked["eta_seconds"]) == (None, None)
    path = answer.headers["location"]
    assert path == asked["links"]["self"] == f"/v1/jobs/{job_id}/exports/{asked['id']}"
    run_exports(worker)
    done = api.as_alice("GET", path).json()
    assert done["status"] == "succeeded"
    assert done["report"] == {"images": 2, "instances": 2, "loss": None}
    assert done["progress"] == {"pass_number": 1, "images_read": 2, "images_total": 2}
    assert done["finished_at"] is not None
    assert (done["rate"], done["eta_seconds"]) == (None, None)
    contents = {file["name"]: api.client.get(file["url"]).content for file in done["files"]}
    for file in done["files"]:
        assert hashlib.sha256(contents[file["name"]]).hexdigest() == file["sha256"]
    document = json.loads(contents["annotations.coco.json"])
    assert [a["score"] for a in document["annotations"]] == [0.9, 0.3]
    assert [c["name"] for c in document["categories"]] == ["red circle"]
    (listed,) = api.as_alice("GET", f"/v1/jobs/{job_id}/exports").json()["data"]
    assert listed == {**done, "files": None}


@pytest.mark.parametrize(
    ("reading", "rate", "eta_seconds"),
    [
        (Reading(0, 0, None), None, None),
        (Reading(1, 0, 900), None, None),
        (Reading(1, 600, 900), 6, 50),
        (Reading(2, 300, 900), 12, 50),  # all of the first pass, and a third of this one
    ],
)
def test_how_fast_an_export_is_and_how_long_it_takes_is_of_its_present_run(
    api: Api, worker: Runtime, reading: Reading, rate: float | None, eta_seconds: float | None
) -> None:
    path = ask(api, finished_job(api)).headers["location"]
    with worker.database.begin() as connection:
        connection.execute(text("UPDATE exports SET running_at = now() - interval '1 hour'"))
        claimed = export_runs.claim_export(connection, owner="w", lease_seconds=60)
        assert claimed is not None
        export_runs.renew_export(connection, claimed[1], reading=reading, lease_seconds=60)
    long_ago = text("UPDATE exports SET running_at = running_at - interval '100 seconds'")
    with worker.database.begin() as connection:
        connection.execute(long_ago)
    found = api.as_alice("GET", path).json()
    assert found["rate"] == (None if rate is None else pytest.approx(rate, rel=0.05))
    assert found["eta_seconds"] == (
        None if eta_seconds is None else pytest.approx(eta_seconds, rel=0.05)
    )
    with worker.database.begin() as connection:
        connection.execute(text("UPDATE exports SET lease_expires_at = now()"))
    (found,) = api.as_alice("GET", path.rpartition("/")[0]).json()["data"]
    assert (found["rate"], found["eta_seconds"]) == (None, None), "its planner is silent"


def test_the_rest_of_a_download_can_be_asked_for(api: Api, worker: Runtime) -> None:
    job_id = finished_job(api)
    path = ask(api, job_id).headers["location"]
    run_exports(worker)
    url = api.as_alice("GET", path).json()["files"][0]["url"]
    whole = api.client.get(url)
    assert whole.headers["accept-ranges"] == "bytes"
    size = len(whole.content)
    rest = api.client.get(url, headers={"Range": "bytes=7-"})
    assert (rest.status_code, rest.content) == (206, whole.content[7:])
    assert rest.headers["content-range"] == f"bytes 7-{size - 1}/{size}"
    assert rest.headers["content-length"] == str(size - 7)
    after_the_end = api.client.get(url, headers={"Range": f"bytes={size}-"})
    assert after_the_end.status_code == 416
    for odd in ("bytes=3-5", "bytes=-5", "lines=1-", "bytes=1-2,4-"):
        assert api.client.get(url, headers={"Range": odd}).content == whole.content


def test_the_same_options_answer_with_the_same_export(api: Api, worker: Runtime) -> None:
    job_id = finished_job(api)
    first = ask(api, job_id, class_scores={"star": 0.5, "red circle": 0.4})
    again = ask(api, job_id, class_scores={"red circle": 0.4, "star": 0.5}, min_score=None)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    other = ask(api, job_id, min_score=0.7)
    assert other.json()["id"] != first.json()["id"]
    run_exports(worker)
    run_exports(worker)
    assert ask(api, job_id, min_score=0.7).json()["status"] == "succeeded"
    ids = [e["id"] for e in api.as_alice("GET", f"/v1/jobs/{job_id}/exports").json()["data"]]
    assert ids == [other.json()["id"], first.json()["id"]]


def test_an_idempotency_key_brings_back_its_export_and_takes_no_other(api: Api) -> None:
    job_id = finished_job(api)
    key = {"Idempotency-Key": "week-12"}
    first = ask(api, job_id, headers=key)
    assert "idempotency-replayed" not in first.headers
    again = ask(api, job_id, headers=key)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert again.headers["idempotency-replayed"] == "true"
    other = ask(api, job_id, headers=key, min_score=0.9)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


def test_many_who_ask_at_once_get_one_export(api: Api) -> None:
    job_id = finished_job(api)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(api, job_id), range(8)))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: 7}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_job_that_runs_is_exported_as_far_as_it_is_if_asked(api: Api, worker: Runtime) -> None:
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=4)
    refused = ask(api, job_id)
    assert (refused.status_code, refused.json()["code"]) == (409, "job_not_ended")
    empty = ask(api, job_id, partial=True)
    assert (empty.status_code, empty.json()["code"]) == (409, "not_labelled_yet")
    commit(api, lease, LABELLED)
    first = ask(api, job_id, partial=True)
    assert first.status_code == 202
    run_exports(worker)
    done = api.as_alice("GET", first.headers["location"]).json()
    assert (done["partial"], done["report"]["images"]) == (True, 2)
    assert ask(api, job_id, partial=True).json()["id"] == done["id"]
    commit(api, lease, [labelled(found(0.6))], start=3)
    grown = ask(api, job_id, partial=True)
    assert grown.status_code == 202
    finish(api, lease)
    whole = ask(api, job_id, partial=True).json()
    assert whole["partial"] is False
    assert whole["id"] == ask(api, job_id).json()["id"]


def test_what_was_committed_late_with_an_earlier_time_makes_another_export(
    api: Api, worker: Runtime
) -> None:
    """Its time is that at which its transaction began."""
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=4)
    commit(api, lease, LABELLED)
    first = ask(api, job_id, partial=True).json()
    run_exports(worker)
    commit(api, lease, [labelled(found(0.6))], start=3)
    with worker.database.begin() as connection:
        late = "committed_at = committed_at - interval '1 hour' WHERE start = 3"
        connection.execute(text(f"UPDATE slices SET {late}"))
    second = ask(api, job_id, partial=True)
    assert second.json()["id"] != first["id"]
    run_exports(worker)
    done = api.as_alice("GET", second.headers["location"]).json()
    assert done["report"]["images"] == 3


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"class_scores": {"stra": 0.5}}, ["'stra'", "'star'"]),
        ({"classes": {"helmet": "hat"}}, ["'helmet'"]),
        ({"exclusive": [{"classes": ["star", "moon"]}]}, ["'moon'"]),
    ],
)
def test_classes_that_the_job_does_not_have_are_named(
    api: Api, body: dict[str, Any], names: list[str]
) -> None:
    answer = ask(api, finished_job(api), **body)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_class")
    assert all(name in answer.json()["detail"] for name in names)


@pytest.mark.parametrize(
    "body",
    [{"format": "cooc"}, {"min_score": 1.5}, {"min_scroe": 0.5}, {"top_k": 0}, {"classes": []}],
)
def test_options_that_make_no_sense_are_refused(api: Api, body: dict[str, Any]) -> None:
    answer = ask(api, finished_job(api), **body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_options_that_would_fill_every_list_of_exports_are_refused(api: Api) -> None:
    job_id, name = finished_job(api), f"{0:0>1000}"
    groups = [{"classes": [name] * 100}, {"classes": ["star", name]}]
    answers = [
        ask(api, job_id, classes={"red circle": name}, exclusive=groups * count) for count in (1, 2)
    ]
    assert [answer.status_code for answer in answers] == [202, 413]
    assert answers[1].json()["code"] == "request_too_large"


def test_a_part_that_was_changed_fails_the_export_and_says_so(api: Api, worker: Runtime) -> None:
    job_id = finished_job(api)
    part = api.as_alice("GET", f"/v1/jobs/{job_id}/results").json()["data"][0]["annotations"]
    api_store(worker).put(f"jobs/{job_id}/results/{part['key']}", b"other")
    path = ask(api, job_id).headers["location"]
    run_exports(worker)
    done = api.as_alice("GET", path).json()
    assert (done["status"], done["error"]["code"]) == ("failed", "result_damaged")
    assert part["key"] in done["error"]["message"]
    assert ask(api, job_id).status_code == 202, "a failed export does not stand in the way"


def api_store(worker: Runtime) -> Any:
    return worker.objects


def test_an_export_is_canceled_and_deleted(api: Api, worker: Runtime) -> None:
    job_id = finished_job(api)
    path = ask(api, job_id).headers["location"]
    assert api.as_alice("POST", f"{path}/cancel").json()["status"] == "canceled"
    assert api.as_alice("POST", f"{path}/cancel").status_code == 200
    path = ask(api, job_id).headers["location"]
    run_exports(worker)
    late = api.as_alice("POST", f"{path}/cancel")
    assert (late.status_code, late.json()["code"]) == (409, "export_already_ended")
    assert api.as_alice("DELETE", path).status_code == 204
    assert api.as_alice("GET", path).status_code == 404
    assert api.as_alice("DELETE", path).status_code == 404
    assert ask(api, job_id).status_code == 202
    events = api.as_alice("GET", f"/v1/jobs/{job_id}/events").json()["data"]
    deleted = [event["data"]["why"] for event in events if event["kind"] == "export.deleted"]
    assert deleted == ["asked"]


def test_exports_are_their_owners_alone(api: Api) -> None:
    job_id = finished_job(api)
    path = ask(api, job_id).headers["location"]
    other = api.create_job()["id"]
    for method, address in (
        ("GET", path),
        ("DELETE", path),
        ("POST", f"{path}/cancel"),
        ("GET", f"/v1/jobs/{job_id}/exports"),
        ("POST", f"/v1/jobs/{job_id}/exports"),
    ):
        body = {"format": "coco"} if method == "POST" else None
        answer = api.client.request(method, address, json=body, headers=api.bob)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    elsewhere = path.replace(job_id, other)
    assert api.as_alice("GET", elsewhere).status_code == 404
    assert api.as_alice("GET", f"/v1/jobs/{job_id}/exports/exp_1").status_code == 404


def test_lists_come_in_pages(api: Api) -> None:
    job_id = finished_job(api)
    asked = [ask(api, job_id, top_k=count).json()["id"] for count in range(1, 6)]
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = api.as_alice("GET", f"/v1/jobs/{job_id}/exports", params=params).json()
        seen += [export["id"] for export in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == asked[::-1]


def test_a_key_has_so_many_open_exports_however_many_ask_at_once(
    database_url: str, tmp_path: Path
) -> None:
    with opened_api(settings_for(database_url, tmp_path, exports_per_key=3)) as api:
        job_id = finished_job(api)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: ask(api, job_id, top_k=n), range(1, 9)))
        assert Counter(answer.status_code for answer in answers) == {202: 3, 429: 5}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["code"] == "too_many_exports"
        assert int(refused.headers["retry-after"]) > 0
        first = next(answer for answer in answers if answer.status_code == 202)
        api.as_alice("POST", first.headers["location"] + "/cancel")
        assert ask(api, job_id, top_k=99).status_code == 202
