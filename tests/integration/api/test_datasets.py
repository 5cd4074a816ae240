import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from storage import object_keys
from storage.datasets import add_dataset, dismiss_dataset, find_dataset, keep_dataset
from storage.object_store import StoreUnavailable, open_store
from tests.integration.api.conftest import Api, job_body
from workers.dataset_tidying import DatasetTidying


def create_dataset(api: Api, name: str = "street") -> str:
    answer = api.as_alice("POST", "/v1/datasets", json={"name": name})
    assert answer.status_code == 201
    return str(answer.json()["id"])


def stored(api: Api, dataset_id: str, path: str) -> bytes:
    store = open_store(api.settings.object_store, settings=api.settings)
    return store.get(object_keys.dataset_file(dataset_id, path))


def test_datasets_are_created_shown_and_listed_oldest_first(api: Api) -> None:
    ids = [create_dataset(api, f"set {number}") for number in range(3)]
    shown = api.as_alice("GET", f"/v1/datasets/{ids[0]}").json()
    assert (shown["name"], shown["linked"]) == ("set 0", False)
    first = api.as_alice("GET", "/v1/datasets", params={"limit": 2}).json()
    cursor = first["next_cursor"]
    rest = api.as_alice("GET", "/v1/datasets", params={"limit": 2, "cursor": cursor}).json()
    assert [entry["id"] for entry in first["data"] + rest["data"]] == ids
    assert rest["next_cursor"] is None


def test_another_callers_dataset_does_not_exist(api: Api) -> None:
    dataset_id = create_dataset(api)
    shown = api.client.get(f"/v1/datasets/{dataset_id}", headers=api.bob)
    upload = api.client.put(f"/v1/datasets/{dataset_id}/files/a", content=b"", headers=api.bob)
    body = job_body(source={"type": "dataset", "id": dataset_id})
    job = api.client.post("/v1/jobs", json=body, headers=api.bob)
    assert (shown.status_code, upload.status_code) == (404, 404)
    assert (job.status_code, job.json()["code"]) == (422, "dataset_not_found")
    assert api.as_alice("POST", "/v1/jobs", json=body).status_code == 202


def test_files_are_stored_as_they_are_and_replaced(api: Api) -> None:
    dataset_id = create_dataset(api)
    path = "day 1/ü 100%/a+b.png"
    url = f"/v1/datasets/{dataset_id}/files/day 1/%C3%BC 100%25/a+b.png"
    for content in (b"first", bytes(range(256)) * 8000, b""):
        answer = api.as_alice("PUT", url, content=content)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"path": path, "bytes": len(content)}
        assert stored(api, dataset_id, path) == content


def test_a_file_above_the_limit_is_refused_and_not_stored(api: Api) -> None:
    dataset_id = create_dataset(api)
    url = f"/v1/datasets/{dataset_id}/files/big.png"
    limit = api.settings.max_upload_bytes
    assert api.as_alice("PUT", url, content=b"x" * limit).status_code == 200
    answer = api.as_alice("PUT", url, content=b"y" * (limit + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert stored(api, dataset_id, "big.png") == b"x" * limit


@pytest.mark.parametrize(
    "path",
    [
        "%2e%2e/a",
        "a/%2e%2e/b",
        "%2e/a",
        "a//b",
        "a%5Cb",
        "a%00b",
        "%2Fetc/passwd",
        "a/",
        "",
        "x" * 256,
        "/".join(["y" * 200] * 5),
    ],
)
def test_a_path_that_is_not_plainly_inside_is_refused(api: Api, path: str) -> None:
    dataset_id = create_dataset(api)
    answer = api.as_alice("PUT", f"/v1/datasets/{dataset_id}/files/{path}", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_path")
    folder = Path(api.settings.object_store.removeprefix("file://"))
    assert [p for p in folder.rglob("*") if p.is_file()] == []


def test_a_name_that_is_a_folder_already_is_a_conflict(api: Api) -> None:
    dataset_id = create_dataset(api)
    url = f"/v1/datasets/{dataset_id}/files"
    api.as_alice("PUT", f"{url}/a/b", content=b"x")
    answer = api.as_alice("PUT", f"{url}/a", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (409, "path_conflict")


def test_a_linked_folder_takes_no_uploads(api: Api, tmp_path: Path) -> None:
    with api.database.begin() as connection:
        root = str(tmp_path)
        dataset = add_dataset(connection, api.alice_id, name="linked", local_root=root)
    shown = api.as_alice("GET", f"/v1/datasets/{dataset.id}")
    assert shown.json()["linked"] is True
    assert root not in shown.text
    answer = api.as_alice("PUT", f"/v1/datasets/{dataset.id}/files/a.png", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_is_linked")
    assert not (tmp_path / "a.png").exists()


def test_no_local_root_is_taken_over_rest(api: Api) -> None:
    answer = api.as_alice("POST", "/v1/datasets", json={"name": "x", "local_root": "/etc"})
    assert answer.status_code == 422


def test_the_operator_links_a_folder_by_command(api: Api, tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "scenes")
    done = link(api, str(tmp_path / "here"), key=api.alice["Authorization"].split()[1])
    assert done.returncode == 0, done.stderr
    dataset_id = json.loads(done.stdout)["id"]
    shown = api.as_alice("GET", f"/v1/datasets/{dataset_id}").json()
    assert (shown["name"], shown["linked"]) == ("scenes", True)
    assert api.client.get(f"/v1/datasets/{dataset_id}", headers=api.bob).status_code == 404
    assert link(api, str(tmp_path / "nowhere"), key="mm_x").returncode == 1
    assert link(api, str(tmp_path), key="mm_x").returncode == 1


def link(api: Api, folder: str, *, key: str) -> "subprocess.CompletedProcess[str]":
    url = api.settings.database_url.get_secret_value()
    return subprocess.run(
        [sys.executable, "-m", "api.datasets", "link", folder],
        env={**os.environ, "MASKMILL_DATABASE_URL": url, "MASKMILL_API_KEY": key},
        capture_output=True,
        text=True,
        check=False,
    )


def upload(api: Api, dataset_id: str, *paths: str) -> None:
    for path in paths:
        url = f"/v1/datasets/{dataset_id}/files/{path}"
        assert api.as_alice("PUT", url, content=b"x").status_code == 200


def left_of(api: Api, dataset_id: str) -> list[str]:
    store = open_store(api.settings.object_store, settings=api.settings)
    return [info.key for info in store.list(object_keys.dataset_prefix(dataset_id))]


def tidy(api: Api) -> None:
    DatasetTidying(api.settings, api.database).tidy_some()


def test_a_dataset_is_deleted_with_its_files_and_no_others(api: Api) -> None:
    gone, kept = create_dataset(api), create_dataset(api)
    for dataset_id in (gone, kept):
        upload(api, dataset_id, "a", "b/c")
    url = f"/v1/datasets/{gone}"
    assert api.as_alice("DELETE", url).status_code == 204
    assert api.as_alice("GET", url).status_code == 404
    assert [one["id"] for one in api.as_alice("GET", "/v1/datasets").json()["data"]] == [kept]
    assert api.as_alice("DELETE", url).status_code == 204, "the first answer may have been lost"
    tidy(api)
    assert (left_of(api, gone), len(left_of(api, kept))) == ([], 2)
    assert api.as_alice("DELETE", url).status_code == 404


def test_only_its_owner_and_admins_delete_a_dataset(api: Api) -> None:
    dataset_id = create_dataset(api)
    url = f"/v1/datasets/{dataset_id}"
    assert api.client.delete(url, headers=api.bob).status_code == 404
    assert api.as_alice("GET", url).status_code == 200
    assert api.client.delete(url, headers=api.admin).status_code == 204
    assert api.as_alice("GET", url).status_code == 404


def test_a_job_that_has_begun_reads_its_dataset_to_the_end_and_none_begins_any_more(
    api: Api,
) -> None:
    dataset_id = create_dataset(api)
    upload(api, dataset_id, "a")
    body = job_body(source={"type": "dataset", "id": dataset_id})
    key = {"Idempotency-Key": "once"}
    job = api.as_alice("POST", "/v1/jobs", json=body, headers=key).json()["id"]
    assert api.as_alice("DELETE", f"/v1/datasets/{dataset_id}").status_code == 204
    refused = api.as_alice("POST", "/v1/jobs", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "dataset_not_found")
    again = api.as_alice("POST", "/v1/jobs", json=body, headers=key)
    assert again.json()["id"] == job, "it was made already"
    tidy(api)
    assert len(left_of(api, dataset_id)) == 1
    with api.database.begin() as connection:
        assert find_dataset(connection, dataset_id) is not None, "for the job's runs"
        connection.execute(text("UPDATE jobs SET status = 'succeeded'"))
    tidy(api)
    assert left_of(api, dataset_id) == []
    assert api.as_alice("GET", f"/v1/jobs/{job}").json()["source"]["id"] == dataset_id


def test_a_deletion_waits_for_a_job_that_is_about_to_begin(api: Api) -> None:
    dataset_id = create_dataset(api)
    with api.database.begin() as beginning, api.database.begin() as deleting:
        assert keep_dataset(beginning, dataset_id, owner_key_id=api.alice_id)
        deleting.execute(text("SET LOCAL lock_timeout = '100ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            dismiss_dataset(deleting, dataset_id)


def test_where_removing_files_breaks_off_it_goes_on_later(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = create_dataset(api)
    upload(api, dataset_id, *"abcde")
    api.as_alice("DELETE", f"/v1/datasets/{dataset_id}")
    store = type(open_store(api.settings.object_store, settings=api.settings))
    delete = store.delete

    def delete_two(self: Any, keys: Any) -> None:
        delete(self, islice(keys, 2))
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "delete", delete_two)
        with pytest.raises(StoreUnavailable):
            tidy(api)
    assert len(left_of(api, dataset_id)) == 3
    tidy(api)
    assert left_of(api, dataset_id) == []


def test_files_that_come_while_a_dataset_is_deleted_do_not_stay(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = create_dataset(api)
    store = type(open_store(api.settings.object_store, settings=api.settings))
    put = store.put_file

    def delete_then_put(self: Any, *arguments: Any, **options: Any) -> None:
        assert api.as_alice("DELETE", f"/v1/datasets/{dataset_id}").status_code == 204
        tidy(api)
        put(self, *arguments, **options)

    monkeypatch.setattr(store, "put_file", delete_then_put)
    answer = api.as_alice("PUT", f"/v1/datasets/{dataset_id}/files/a", content=b"x")
    assert answer.status_code == 404
    assert left_of(api, dataset_id) == []


def test_a_linked_folder_keeps_its_files(api: Api, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with api.database.begin() as connection:
        linked = add_dataset(connection, api.alice_id, name="linked", local_root=str(tmp_path))
    assert api.as_alice("DELETE", f"/v1/datasets/{linked.id}").status_code == 204
    tidy(api)
    assert (tmp_path / "a.png").exists()
    with api.database.begin() as connection:
        assert find_dataset(connection, linked.id) is None
