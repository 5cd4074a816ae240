"""Exports as the planner's workers make them, on a real database and a real store."""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from domain.exports import ExportFormat
from domain.lifecycle import ExportStatus
from domain.results import InstanceRow
from storage import exports, object_keys
from storage.jobs import Job
from storage.slices import result_grew_at
from tests.integration.workers.conftest import IMAGES, Workplace, open_workplace
from tests.integration.workers.export_work import (
    again,
    ask,
    digests_of,
    keys_of,
    made,
    source,
    stop_after_one_shard,
    store_of,
    tidy,
)
from tests.s3_server import S3Bucket
from workers import planning_run, shard_run
from workers.export_run import run_exports
from workers.retention import Retention


def test_an_export_holds_the_result_and_says_where_it_comes_from(
    null_workplace: Workplace, job: Job
) -> None:
    export = made(null_workplace, job, format="coco")
    assert export.files is not None
    store = store_of(null_workplace, job)
    contents = {file["name"]: store.get(file["key"]) for file in export.files}
    for file in export.files:
        content = contents[file["name"]]
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            file["bytes"],
            file["sha256"],
        )
    rows = null_workplace.instances(job)
    document = json.loads(contents["annotations.coco.json"])
    assert len(document["images"]) == IMAGES
    assert len(document["annotations"]) == len(rows) > 0
    assert export.report == {"images": IMAGES, "instances": len(rows), "loss": None}
    assert list(contents)[-1] == "maskmill.json"
    provenance = json.loads(contents["maskmill.json"])
    assert (provenance["job_id"], provenance["model"]) == (job.id, "null")
    assert provenance["options"]["format"] == "coco"
    assert provenance["counts"] == export.report
    assert [file["name"] for file in provenance["files"]] == list(contents)[:-1]
    assert (export.pass_number, export.images_read, export.images_total) == (1, IMAGES, IMAGES)


def test_the_same_options_are_the_same_export_and_made_again_the_same_bytes(
    null_workplace: Workplace, job: Job
) -> None:
    first = made(null_workplace, job)
    assert ask(null_workplace, job).id == first.id
    with null_workplace.runtime.database.begin() as connection:
        exports.delete_export(connection, first.id, why="asked")
    second = made(null_workplace, job)
    assert second.id != first.id
    assert first.files is not None
    assert second.files is not None
    assert digests_of(first) == digests_of(second)
    assert not {f["key"] for f in first.files} & {f["key"] for f in second.files}


def test_every_format_is_made_and_made_again_with_the_same_bytes(
    null_workplace: Workplace,
) -> None:
    job = null_workplace.run(null_workplace.submit(source(10)))
    for number in (1, 2):
        found = {one: digests_of(made(null_workplace, job, format=one)) for one in ExportFormat}
        assert all("maskmill.json" in files for files in found.values())
        if number == 1:
            first = found
            null_workplace.execute("UPDATE exports SET deleted_at = now()")
    assert found == first


@pytest.mark.parametrize("change", ["damaged", "missing", "cut"])
def test_a_part_that_is_not_what_was_written_fails_the_export_by_name(
    null_workplace: Workplace, job: Job, change: str
) -> None:
    key = null_workplace.manifest(job).parts[-1].annotations.key
    store = store_of(null_workplace, job)
    content = store.get(key)
    changed = {"damaged": content[:-1] + bytes([content[-1] ^ 1]), "cut": content[:-9]}
    if change == "missing":
        store.delete([key])
    else:
        store.put(key, changed[change])
    export = ask(null_workplace, job)
    run_exports(null_workplace.runtime)
    done = again(null_workplace, export)
    assert done.status is ExportStatus.FAILED
    assert done.error is not None
    assert done.error["code"] == "result_damaged"
    assert key in done.error["message"]
    store.put(key, content)
    assert made(null_workplace, job).id != export.id, "a failed one does not stand in the way"


def test_what_is_labelled_so_far_is_exported_while_the_job_runs(
    null_workplace: Workplace,
) -> None:
    job = null_workplace.submit(source(300))
    planning_run.plan_job(null_workplace.runtime, job.id)
    stop_after_one_shard(null_workplace)
    counted = made(null_workplace, job, partial=True, format="coco")
    assert counted.report is not None
    assert 0 < counted.report["images"] < 300
    (provenance,) = (f for f in counted.files or () if f["name"] == "maskmill.json")
    document = json.loads(store_of(null_workplace, job).get(provenance["key"]))
    assert document["partial"] is True
    with null_workplace.runtime.database.begin() as connection:
        assert datetime.fromisoformat(document["created_at"]) == result_grew_at(connection, job.id)
    assert ask(null_workplace, job, partial=True, format="coco").id == counted.id
    null_workplace.runtime.stopping.clear()
    shard_run.run_shards(null_workplace.runtime)
    assert ask(null_workplace, job, partial=True, format="coco").id != counted.id


def test_a_view_is_what_the_export_has(null_workplace: Workplace, job: Job) -> None:
    rows = null_workplace.instances(job)
    middle = sorted(row.score for row in rows)[len(rows) // 2]
    export = made(null_workplace, job, min_score=middle, top_k=2)
    assert export.report is not None
    assert export.report["instances"] == shown_of(rows, middle)


def shown_of(rows: list[InstanceRow], min_score: float) -> int:
    counts: dict[int, int] = {}
    for row in rows:
        if row.score >= min_score:
            counts[row.image_index] = counts.get(row.image_index, 0) + 1
    return sum(min(count, 2) for count in counts.values())


def test_what_becomes_of_an_export_is_in_the_jobs_events_and_its_webhook_is_told(
    null_workplace: Workplace, job: Job
) -> None:
    null_workplace.execute("UPDATE jobs SET webhook_url = 'https://example.com/hook'")
    export = made(null_workplace, job)
    with null_workplace.runtime.database.begin() as connection:
        query = text("SELECT kind FROM events WHERE data->>'export_id' = :id ORDER BY id")
        kinds = list(connection.execute(query, {"id": export.id}).scalars())
        payload = connection.execute(text("SELECT payload FROM deliveries")).scalar_one()
    assert kinds == ["export.queued", "export.running", "export.succeeded"]
    assert payload["type"] == "export.succeeded"
    assert payload["data"]["id"] == job.id
    assert (payload["data"]["export_id"], payload["data"]["format"]) == (export.id, "parquet")


def test_old_exports_go_by_policy_and_that_is_recorded(null_workplace: Workplace, job: Job) -> None:
    old = made(null_workplace, job)
    null_workplace.execute("UPDATE exports SET finished_at = now() - interval '31 days'")
    kept = made(null_workplace, job, top_k=1)
    tidy(null_workplace, later=False)
    assert {key.split("/")[1] for key in keys_of(null_workplace, job)} == {kept.id}
    with null_workplace.runtime.database.begin() as connection:
        assert exports.find_export(connection, job.id, old.id) is None
        query = text("SELECT data FROM events WHERE kind = 'export.deleted'")
        (data,) = connection.execute(query).scalars()
        rows = connection.execute(text("SELECT count(*) FROM exports")).scalar_one()
    assert (data["export_id"], data["why"]) == (old.id, "retention")
    assert rows == 1


@pytest.fixture
def s3_workplace(database_url: str, tmp_path: Path, s3_bucket: S3Bucket) -> Iterator[Workplace]:
    yield from open_workplace(
        database_url,
        tmp_path,
        allowed_sources=["null://"],
        allowed_outputs=[s3_bucket.uri],
        s3_endpoint_url=s3_bucket.endpoint_url,
        models=["null"],
    )


def test_an_export_lies_beside_the_result_and_goes_with_it(
    s3_workplace: Workplace, s3_bucket: S3Bucket
) -> None:
    job = s3_workplace.run(s3_workplace.submit(source(10), output=f"{s3_bucket.uri}/masks"))
    export = made(s3_workplace, job)
    prefix = f"masks/{job.id}/{object_keys.export_prefix(export.id)}"
    listed = s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name, Prefix=prefix)["Contents"]
    assert len(listed) == len(export.files or ())
    s3_workplace.execute("UPDATE jobs SET finished_at = now() - interval '9 days'")
    settings = s3_workplace.runtime.settings.model_copy(update={"delete_results_after_days": 8})
    Retention(settings, s3_workplace.runtime.database).keep_to_policy()
    assert "Contents" not in s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name)
