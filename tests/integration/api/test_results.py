import hashlib
import time
from urllib.parse import urlsplit

import pytest

from api.results.links import ResultFileName, sign
from domain.annotations import failure
from domain.errors import ImageErrorCode
from domain.results import iter_images
from storage.object_store import open_store
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import commit, finish, found, labelled, plan


def test_progress_counts_images_by_state(api: Api) -> None:
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=5)
    commit(api, lease, [labelled(found(0.9), found(0.2)), failure(ImageErrorCode.TRUNCATED, "x")])
    job = api.as_alice("GET", f"/v1/jobs/{job_id}").json()
    counts = {"total": 5, "processing": 3, "succeeded": 1, "failed": 1, "canceled": 0}
    assert job["counts"] == counts
    assert job["instances"] == 2
    assert job["total_is_final"] is True
    assert job["rate"] > 0
    assert job["eta_seconds"] > 0
    assert job["running_at"] is not None


def test_parts_are_listed_while_the_job_runs_and_download_without_a_key(api: Api) -> None:
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=3)
    commit(api, lease, [labelled(found(0.9)), labelled()])
    commit(api, lease, [labelled()], start=2)
    path = f"/v1/jobs/{job_id}/results"
    first = api.as_alice("GET", path, params={"limit": 1}).json()
    rest = api.as_alice("GET", path, params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert first["manifest"] is None
    assert rest["next_cursor"] is None
    spans = [(p["first_image_index"], p["image_count"]) for p in first["data"] + rest["data"]]
    assert spans == [(0, 2), (2, 1)]
    images = first["data"][0]["images"]
    download = api.client.get(images["url"])
    assert download.status_code == 200
    assert download.headers["content-length"] == str(images["bytes"])
    assert hashlib.sha256(download.content).hexdigest() == images["sha256"]
    assert [row.image for row in iter_images(download.content)] == ["image-0.png", "image-1.png"]


def test_a_finished_job_links_and_shows_its_manifest(api: Api) -> None:
    job_id = api.create_job()["id"]
    assert api.as_alice("GET", f"/v1/jobs/{job_id}/manifest").json()["code"] == "no_manifest_yet"
    lease = plan(api, job_id, images=1)
    commit(api, lease, [labelled()])
    finish(api, lease)
    manifest = api.as_alice("GET", f"/v1/jobs/{job_id}/manifest").json()
    assert manifest["job_id"] == job_id
    link = api.as_alice("GET", f"/v1/jobs/{job_id}/results").json()["manifest"]
    assert link["number"] == 1
    assert api.client.get(link["url"]).json()["categories"] == ["red circle", "star"]


@pytest.mark.parametrize("change", ["payload", "signature", "none", "cut", "expired", "secret"])
def test_a_link_that_was_changed_or_has_expired_is_refused(api: Api, change: str) -> None:
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=1)
    commit(api, lease, [labelled()])
    part = api.as_alice("GET", f"/v1/jobs/{job_id}/results").json()["data"][0]["images"]
    token = urlsplit(part["url"]).path.rpartition("/")[2]
    payload, _, mac = token.partition(".")
    name = ResultFileName(job_id, part["key"])
    bad = {
        "payload": f"{payload[:-4]}AAAA.{mac}",
        "signature": f"{payload}.{mac[::-1]}",
        "none": f"{payload}.",
        "cut": payload,
        "expired": sign(name, int(time.time()) - 1, secret="of this test"),
        "secret": sign(name, int(time.time()) + 60, secret="of another"),
    }[change]
    assert api.client.get(f"/v1/downloads/{token}").status_code == 200
    answer = api.client.get(f"/v1/downloads/{bad}")
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_link_never_leads_out_of_the_results(api: Api) -> None:
    open_store(api.settings.object_store, settings=api.settings).put("secret.txt", b"mine")
    job_id = api.create_job()["id"]
    for key in ("../../../secret.txt", "/etc/passwd", "..", ""):
        name = ResultFileName(job_id, key)
        token = sign(name, int(time.time()) + 60, secret="of this test")
        assert api.client.get(f"/v1/downloads/{token}").status_code in (403, 404)


def test_failed_images_are_listed_in_order_with_their_reasons(api: Api) -> None:
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=6)
    truncated = failure(ImageErrorCode.TRUNCATED, "ends early")
    forbidden = failure(ImageErrorCode.FORBIDDEN, "not allowed")
    commit(api, lease, [truncated, labelled(), forbidden])
    path = f"/v1/jobs/{job_id}/errors"
    running = api.as_alice("GET", path).json()
    assert [entry["image_index"] for entry in running["data"]] == [0, 2]
    assert running["data"][0] == {
        "image_index": 0,
        "image": "image-0.png",
        "custom_id": "id-0",
        "code": "truncated",
        "message": "ends early",
    }
    commit(api, lease, [truncated, truncated, labelled()], start=3)
    assert all_errors(api, path, limit=1) == [0, 2, 3, 4]
    assert all_errors(api, path, limit=2) == [0, 2, 3, 4]
    assert all_errors(api, path, limit=2, code="truncated") == [0, 3, 4]
    assert all_errors(api, path, limit=500, code="timeout") == []
    assert api.as_alice("GET", path, params={"code": "tired"}).status_code == 422


def all_errors(api: Api, path: str, **query: object) -> list[int]:
    seen: list[int] = []
    while True:
        page = api.as_alice("GET", path, params=query).json()
        seen += [entry["image_index"] for entry in page["data"]]
        if page["next_cursor"] is None:
            return seen
        query["cursor"] = page["next_cursor"]


def test_one_image_is_shown_in_the_terms_of_coco(api: Api) -> None:
    prompts = [{"text": "red circle", "threshold": 0.8}, {"text": "star"}]
    job_id = api.create_job(prompts=prompts)["id"]
    lease = plan(api, job_id, images=2)
    star = found(0.6, prompt_index=1, category="star")
    commit(api, lease, [labelled(), labelled(found(0.7), star)])
    path = f"/v1/jobs/{job_id}/images/1/annotations"
    shown = api.as_alice("GET", path).json()
    assert shown["image"] == {
        "id": 2,
        "file_name": "image-1.png",
        "width": 6,
        "height": 4,
        "image_index": 1,
        "custom_id": "id-1",
        "error": None,
    }
    assert shown["categories"] == [{"id": 1, "name": "red circle"}, {"id": 2, "name": "star"}]
    assert shown["annotations"] == [
        {
            "id": 1,
            "image_id": 2,
            "category_id": 2,
            "segmentation": {"size": [4, 6], "counts": "4310<"},
            "area": 6,
            "bbox": [1.0, 0.0, 2.0, 3.0],
            "iscrowd": 0,
            "score": 0.6,
            "prompt_index": 1,
        }
    ]
    every = api.as_alice("GET", path, params={"min_score": 0.1}).json()
    assert [a["score"] for a in every["annotations"]] == [0.7, 0.6]


def test_a_failed_image_is_shown_with_its_error(api: Api) -> None:
    job_id = api.create_job()["id"]
    commit(api, plan(api, job_id, images=1), [failure(ImageErrorCode.NOT_FOUND, "gone")])
    shown = api.as_alice("GET", f"/v1/jobs/{job_id}/images/0/annotations").json()
    assert shown["image"]["error"] == {"code": "not_found", "message": "gone"}
    assert shown["annotations"] == []


def test_an_image_without_an_outcome_is_not_labelled_yet_or_does_not_exist(api: Api) -> None:
    job_id = api.create_job()["id"]
    path = f"/v1/jobs/{job_id}/images"
    assert api.as_alice("GET", f"{path}/7/annotations").json()["code"] == "not_labelled_yet"
    lease = plan(api, job_id, images=2)
    commit(api, lease, [labelled()])
    waiting = api.as_alice("GET", f"{path}/1/annotations")
    assert (waiting.status_code, waiting.json()["code"]) == (409, "not_labelled_yet")
    beyond = api.as_alice("GET", f"{path}/2/annotations")
    assert (beyond.status_code, beyond.json()["code"]) == (404, "image_not_found")
    for index in ("-1", "1.5", str(2**63)):
        assert api.as_alice("GET", f"{path}/{index}/annotations").status_code == 422
