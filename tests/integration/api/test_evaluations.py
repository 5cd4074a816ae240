"""Evaluations over REST, made by the worker's own code in this process."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from api.evaluations import service
from domain.annotations import failure
from domain.errors import ImageErrorCode
from storage.datasets import find_dataset
from storage.object_keys import results_root
from storage.object_store import open_store
from storage.truths import truth_sha256
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import MASK, commit, finish, found, labelled, plan
from workers.dataset_tidying import DatasetTidying
from workers.export_run import run_exports
from workers.runtime import Runtime, build_runtime

LABELLED = [
    labelled(found(0.9), found(0.3), found(0.8, prompt_index=1, category="star")),
    failure(ImageErrorCode.TRUNCATED, "cut"),
    labelled(),
    labelled(found(0.7)),
]


@pytest.fixture
def worker(api: Api) -> Iterator[Runtime]:
    runtime = build_runtime(api.settings)
    yield runtime
    runtime.database.dispose()
    runtime.sources.close()


def truth(*, wanted: int = 4, category: str = "red circle") -> dict[str, Any]:
    """In the first image there is one circle, in the others of `wanted` none."""
    segmentation = {"size": list(MASK.size), "counts": MASK.counts.decode()}
    return {
        "images": [
            {"id": n, "file_name": f"image-{n}.png", "width": 6, "height": 4} for n in range(wanted)
        ],
        "categories": [{"id": 1, "name": category}],
        "annotations": [
            {
                "id": 1,
                "image_id": 0,
                "category_id": 1,
                "segmentation": segmentation,
                "area": 6,
                "bbox": [1, 0, 2, 3],
                "iscrowd": 0,
            }
        ],
    }


def uploaded(api: Api, document: Any) -> dict[str, str]:
    dataset = api.as_alice("POST", "/v1/datasets", json={"name": "truth"}).json()["id"]
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    path = f"/v1/datasets/{dataset}/files/truth.json"
    assert api.as_alice("PUT", path, content=body).status_code in (200, 201, 204)
    return {"type": "dataset", "id": dataset, "path": "truth.json"}


def finished_job(api: Api) -> str:
    job_id = str(api.create_job()["id"])
    lease = plan(api, job_id, images=len(LABELLED))
    commit(api, lease, LABELLED)
    finish(api, lease)
    return job_id


def ask(api: Api, job_id: str, where: dict[str, str], **body: Any) -> Any:
    headers = body.pop("headers", {})
    path = f"/v1/jobs/{job_id}/evaluations"
    return api.as_alice("POST", path, json={"truth": where, **body}, headers=headers)


def made(api: Api, worker: Runtime, asked: Any) -> dict[str, Any]:
    assert asked.status_code == 202, asked.text
    run_exports(worker)
    return dict(api.as_alice("GET", asked.headers["location"]).json())


def test_a_result_is_compared_with_the_truth(api: Api, worker: Runtime) -> None:
    job_id = finished_job(api)
    document = truth()
    asked = ask(api, job_id, uploaded(api, document))
    assert (asked.json()["status"], asked.json()["report"]) == ("queued", None)
    assert asked.json()["truth_sha256"] == sha256(json.dumps(document).encode()).hexdigest()
    done = made(api, worker, asked)
    assert done["status"] == "succeeded", done["error"]
    report = done["report"]
    images = report["images"]
    assert (images["evaluated"], images["failed"]["count"]) == (3, 1)
    (circle,) = report["prompts"]
    at = circle["at_min_score"]
    assert (at["true_positives"], at["false_positives"], at["misses"]) == (1, 1, 0)
    assert report["categories"]["without_truth"] == ["star"]
    assert report["overall"]["precision"]["ap"] == pytest.approx(1.0)
    assert circle["concept"]["pm_f1"] == pytest.approx(1.0, abs=2e-4)  # as published: not quite 1
    contents = {file["name"]: api.client.get(file["url"]).content for file in done["files"]}
    assert json.loads(contents["report.json"]) == report
    assert json.loads(contents["maskmill.json"])["evaluation"]["truth_sha256"]
    assert b"<html" in contents["report.html"]
    (listed,) = api.as_alice("GET", f"/v1/jobs/{job_id}/evaluations").json()["data"]
    assert listed == {**done, "files": None, "report": None}
    assert api.as_alice("GET", f"/v1/jobs/{job_id}/exports").json()["data"] == []


def test_the_report_is_shown_as_a_page_that_can_do_nothing(api: Api, worker: Runtime) -> None:
    asked = ask(api, finished_job(api), uploaded(api, truth()))
    path = f"{asked.headers['location']}/report.html"
    assert api.as_alice("GET", path).status_code == 404  # not made yet
    done = made(api, worker, asked)
    shown = api.as_alice("GET", path)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "text/html; charset=utf-8")
    (file,) = [file for file in done["files"] if file["name"] == "report.html"]
    assert shown.content == api.client.get(file["url"]).content
    policy = shown.headers["content-security-policy"].split("; ")
    assert {"sandbox", "default-src 'none'", "frame-ancestors 'none'"} <= set(policy)
    assert "content-disposition" not in shown.headers
    assert api.client.get(path, headers=api.bob).status_code == 404
    assert api.client.get(path).status_code == 401


def test_a_report_that_others_have_changed_is_not_shown(api: Api, worker: Runtime) -> None:
    done = made(api, worker, ask(api, finished_job(api), uploaded(api, truth())))
    with api.database.begin() as connection:
        files = connection.exec_driver_sql(
            "SELECT files FROM exports WHERE id = %s", (done["id"],)
        ).scalar_one()
    (key,) = [file["key"] for file in files if file["name"] == "report.html"]
    store = open_store(api.settings.object_store, settings=api.settings)
    store.put(results_root(done["job_id"]) + key, b"<script>")
    refused = api.as_alice("GET", f"{done['links']['self']}/report.html")
    assert (refused.status_code, refused.json()["code"]) == (409, "result_damaged")


def test_the_same_truth_answers_with_the_same_evaluation(api: Api, worker: Runtime) -> None:
    """By its content, wherever it lies."""
    job_id = finished_job(api)
    first = ask(api, job_id, uploaded(api, truth()))
    again = ask(api, job_id, uploaded(api, truth()))
    other = ask(api, job_id, uploaded(api, truth(wanted=3)))
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 202)
    assert again.json()["id"] == first.json()["id"] != other.json()["id"]


def test_a_truth_with_other_names_is_mapped(api: Api, worker: Runtime) -> None:
    job_id = finished_job(api)
    where = uploaded(api, truth(category="disc"))
    unmapped = made(api, worker, ask(api, job_id, where))
    assert unmapped["report"]["categories"]["unmatched"] == {"disc": 1}
    done = made(api, worker, ask(api, job_id, where, mapping={"disc": "red circle"}))
    assert done["report"]["categories"]["matched"] == {"disc": "red circle"}
    assert done["options"]["mapping"] == {"disc": "red circle"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no JSON", ""),
        ({"images": []}, ""),
        ({**truth(), "annotations": [{"id": 1, "image_id": 99, "category_id": 1}]}, "99"),
    ],
)
def test_a_truth_that_cannot_be_used_says_why(
    api: Api, worker: Runtime, body: Any, said: str
) -> None:
    done = made(api, worker, ask(api, finished_job(api), uploaded(api, body)))
    assert (done["status"], done["error"]["code"]) == ("failed", "bad_truth")
    assert said in done["error"]["message"]


def test_a_truth_that_changes_before_it_is_read_fails_the_evaluation(
    api: Api, worker: Runtime
) -> None:
    job_id = finished_job(api)
    where = uploaded(api, truth())
    asked = ask(api, job_id, where)
    path = f"/v1/datasets/{where['id']}/files/truth.json"
    api.as_alice("PUT", path, content=json.dumps(truth(wanted=2)).encode())
    done = made(api, worker, asked)
    assert (done["status"], done["error"]["code"]) == ("failed", "truth_changed")


def test_a_truth_that_is_not_there_or_not_the_callers_is_refused(api: Api) -> None:
    job_id = finished_job(api)
    where = uploaded(api, truth())
    missing = ask(api, job_id, {**where, "path": "other.json"})
    assert (missing.status_code, missing.json()["code"]) == (422, "truth_not_found")
    answer = api.client.request("POST", "/v1/datasets", json={"name": "his"}, headers=api.bob)
    his = {**where, "id": answer.json()["id"]}
    refused = ask(api, job_id, his)
    assert (refused.status_code, refused.json()["code"]) == (422, "dataset_not_found")
    elsewhere = ask(api, job_id, {"type": "object", "uri": "s3://secrets/truth.json"})
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "source_not_allowed")
    upwards = ask(api, job_id, {**where, "path": "../../keys.json"})
    assert upwards.status_code == 422


def test_a_truth_stays_until_its_evaluation_has_ended(api: Api, worker: Runtime) -> None:
    where = uploaded(api, truth())
    asked = ask(api, finished_job(api), where)
    assert api.as_alice("DELETE", f"/v1/datasets/{where['id']}").status_code == 204
    tidying = DatasetTidying(worker.settings, api.database)
    tidying.tidy_some()
    done = made(api, worker, asked)
    tidying.tidy_some()
    with api.database.begin() as connection:
        assert find_dataset(connection, where["id"]) is None
    shown = api.as_alice("GET", done["links"]["self"]).json()
    assert (shown["status"], shown["truth"]) == ("succeeded", where)


def test_no_connection_waits_while_a_truth_is_read(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has up to 512 MB, and may come from a slow store."""
    job_id = finished_job(api)
    where = uploaded(api, truth())
    waiting: list[int] = []

    def reading(file: BinaryIO) -> str:
        with api.database.begin() as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            query += " AND state = 'idle in transaction'"
            waiting.append(connection.exec_driver_sql(query).scalar_one())
        return truth_sha256(file)

    monkeypatch.setattr(service, "truth_sha256", reading)
    assert ask(api, job_id, where).status_code == 202
    assert waiting == [0]


def test_a_job_that_still_runs_is_evaluated_as_far_as_it_is(api: Api, worker: Runtime) -> None:
    job_id = str(api.create_job()["id"])
    lease = plan(api, job_id, images=4)
    commit(api, lease, LABELLED[:1])
    where = uploaded(api, truth())
    refused = ask(api, job_id, where)
    assert (refused.status_code, refused.json()["code"]) == (409, "job_not_ended")
    done = made(api, worker, ask(api, job_id, where, partial=True))
    assert done["partial"] is True
    assert done["report"]["images"]["evaluated"] == 1
    assert done["report"]["images"]["not_in_job"]["count"] == 3


def test_an_evaluation_is_canceled_and_deleted(api: Api, worker: Runtime) -> None:
    job_id = finished_job(api)
    asked = ask(api, job_id, uploaded(api, truth()))
    path = asked.headers["location"]
    assert api.as_alice("POST", f"{path}/cancel").json()["status"] == "canceled"
    run_exports(worker)
    assert api.as_alice("GET", path).json()["report"] is None
    done = made(api, worker, ask(api, job_id, uploaded(api, truth())))
    late = api.as_alice("POST", f"{done['links']['self']}/cancel")
    assert (late.status_code, late.json()["code"]) == (409, "evaluation_already_ended")
    assert api.as_alice("DELETE", done["links"]["self"]).status_code == 204
    assert api.as_alice("GET", done["links"]["self"]).status_code == 404


def test_an_evaluation_made_again_has_the_same_bytes(api: Api, worker: Runtime) -> None:
    job_id = finished_job(api)
    where = uploaded(api, truth())
    first = made(api, worker, ask(api, job_id, where))
    api.as_alice("DELETE", first["links"]["self"])
    again = made(api, worker, ask(api, job_id, where))
    assert again["id"] != first["id"]
    sums = [{file["name"]: file["sha256"] for file in one["files"]} for one in (first, again)]
    assert sums[0] == sums[1]
    assert set(sums[0]) == {"report.json", "report.html", "maskmill.json"}


def test_nobody_else_sees_an_evaluation_or_makes_one(api: Api) -> None:
    job_id = finished_job(api)
    path = ask(api, job_id, uploaded(api, truth())).headers["location"]
    assert api.client.get(path, headers=api.bob).status_code == 404
    theirs = f"/v1/jobs/{job_id}/evaluations"
    assert api.client.get(theirs, headers=api.bob).status_code == 404


def test_an_evaluation_has_an_id_that_no_export_has(api: Api, tmp_path: Path) -> None:
    job_id = finished_job(api)
    evaluation = ask(api, job_id, uploaded(api, truth())).json()["id"]
    assert evaluation.startswith("evl_")
    assert api.as_alice("GET", f"/v1/jobs/{job_id}/exports/{evaluation}").status_code == 404
