"""Exports as the planner's workers make them, on a real database and a real store."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from domain import formats
from domain.exports import ExportCounts, ExportFormat, ExportOptions, ExportSource, Sink
from domain.lifecycle import ExportStatus
from domain.results import InstanceRow
from storage import export_runs, exports, object_keys
from storage.exports import Export, NewExport
from storage.jobs import Job
from storage.object_store import ObjectStore, StoreUnavailable
from storage.results_store import results_store
from storage.slices import committed_count, result_grew_at
from tests.integration.workers.conftest import Workplace, open_workplace
from tests.s3_server import S3Bucket
from workers import planning_run, shard_run
from workers.export_run import MAX_EXPORT_ATTEMPTS, run_exports
from workers.export_tidying import REST_LEASES, ExportTidying
from workers.retention import Retention
from workers.sweeper import Sweeper

IMAGES = 70


class Killed(BaseException):
    """As SIGKILL would: nothing in the code catches it."""


@pytest.fixture
def job(null_workplace: Workplace) -> Job:
    return null_workplace.run(null_workplace.submit(source(IMAGES)))


def source(images: int) -> dict[str, str]:
    return {"type": "prefix", "uri": f"null://{images}"}


def ask(workplace: Workplace, job: Job, *, partial: bool = False, **options: Any) -> Export:
    chosen = ExportOptions.model_validate({"format": "parquet", "min_score": 0, **options})
    document = chosen.model_dump(mode="json")
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    with workplace.runtime.database.begin() as connection:
        grew_at = result_grew_at(connection, job.id)
        assert grew_at is not None
        result = (
            exports.partial_result(grew_at, slice_count=committed_count(connection, job.id))
            if partial
            else exports.whole_result(workplace.again(job).manifest_number)
        )
        new = NewExport(job.id, job.owner_key_id, document, digest, result)
        return exports.create_export(connection, new)[0]


def again(workplace: Workplace, export: Export) -> Export:
    with workplace.runtime.database.begin() as connection:
        found = exports.find_export(connection, export.job_id, export.id)
    assert found is not None
    return found


def made(workplace: Workplace, job: Job, **options: Any) -> Export:
    export = ask(workplace, job, **options)
    run_exports(workplace.runtime)
    done = again(workplace, export)
    assert done.status is ExportStatus.SUCCEEDED, done.error
    return done


def store_of(workplace: Workplace, job: Job) -> ObjectStore:
    return results_store(job, settings=workplace.runtime.settings)


def keys_of(workplace: Workplace, job: Job) -> list[str]:
    return [info.key for info in store_of(workplace, job).list("exports/")]


def expire(workplace: Workplace) -> None:
    workplace.execute("UPDATE exports SET lease_expires_at = now() - interval '1 second'")


def bells(workplace: Workplace) -> int:
    with workplace.runtime.database.begin() as connection:
        query = text("SELECT count(*) FROM outbox WHERE task = 'maskmill.run_exports'")
        return int(connection.execute(query).scalar_one())


def writing(monkeypatch: pytest.MonkeyPatch, write: Callable[[ExportSource, Sink], None]) -> None:
    """Have `write` called in the place of the writer of Parquet, after it has stored a file."""

    def interrupted(given: ExportSource, sink: Sink) -> ExportCounts:
        with sink.file("first.bin") as out:
            out.write(b"x")
        write(given, sink)
        return ExportCounts(0, 0)

    monkeypatch.setitem(dict_of_writers(), ExportFormat.PARQUET, interrupted)


def dict_of_writers() -> dict[ExportFormat, Any]:
    assert isinstance(formats.WRITERS, dict)
    return formats.WRITERS


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


def digests_of(export: Export) -> dict[str, str]:
    return {file["name"]: file["sha256"] for file in export.files or ()}


def test_a_run_that_was_killed_is_followed_by_one_that_begins_anew(
    null_workplace: Workplace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = ask(null_workplace, job)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        writing(patch, die)
        with pytest.raises(Killed):
            run_exports(null_workplace.runtime)
    assert len(keys_of(null_workplace, job)) == 1
    run_exports(null_workplace.runtime)
    assert again(null_workplace, export).status is ExportStatus.RUNNING, "its lease still holds"
    expire(null_workplace)
    Sweeper(null_workplace.runtime.settings, null_workplace.runtime.database).sweep(
        ring_for_jobs=True
    )
    assert bells(null_workplace) > 0
    run_exports(null_workplace.runtime)
    done = again(null_workplace, export)
    assert done.status is ExportStatus.SUCCEEDED
    files = {file["key"] for file in done.files or ()}
    assert files < set(keys_of(null_workplace, job)), "what the first run left lies there"
    tidy(null_workplace)
    assert set(keys_of(null_workplace, job)) == files


def tidy(workplace: Workplace, *, later: bool = True) -> None:
    seconds = REST_LEASES * workplace.runtime.settings.lease_seconds + 1
    if later:
        workplace.execute(
            f"UPDATE exports SET finished_at = finished_at - interval '{seconds} seconds'"
        )
    ExportTidying(workplace.runtime.settings, workplace.runtime.database).tidy_some()


def test_a_run_that_lost_its_lease_changes_nothing(
    null_workplace: Workplace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = ask(null_workplace, job)
    others: list[Export] = []

    def let_another_begin(*_: object) -> None:
        if not others:
            expire(null_workplace)
            others.append(export)
            with suppress(Killed):
                run_exports(null_workplace.runtime)

    writing(monkeypatch, let_another_begin)
    run_exports(null_workplace.runtime)
    done = again(null_workplace, export)
    assert done.status is ExportStatus.SUCCEEDED
    tokens = {file["key"].split("/")[2] for file in done.files or ()}
    assert len(tokens) == 1
    assert max(tokens) == max(key.split("/")[2] for key in keys_of(null_workplace, job))


def test_a_cancel_ends_a_run_within_a_batch_and_nothing_of_it_stays(
    null_workplace: Workplace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = ask(null_workplace, job)
    shown = 0

    def cancel_and_go_on(given: ExportSource, _sink: Sink) -> None:
        nonlocal shown
        with null_workplace.runtime.database.begin() as connection:
            exports.request_cancel(connection, export.id)
        deadline = threading.Event()
        for _ in range(100_000):
            for _ in given.shown():
                shown += 1
                deadline.wait(0.001)
        raise AssertionError("nobody stopped it")

    writing(monkeypatch, cancel_and_go_on)
    run_exports(null_workplace.runtime)
    done = again(null_workplace, export)
    assert (done.status, done.files, done.report) == (ExportStatus.CANCELED, None, None)
    assert shown > 0
    tidy(null_workplace)
    assert keys_of(null_workplace, job) == []


def test_one_that_waits_is_canceled_at_once(null_workplace: Workplace, job: Job) -> None:
    export = ask(null_workplace, job)
    with null_workplace.runtime.database.begin() as connection:
        exports.request_cancel(connection, export.id)
    assert again(null_workplace, export).status is ExportStatus.CANCELED
    assert ask(null_workplace, job).id != export.id


def test_a_worker_that_is_asked_to_stop_gives_the_export_back_uncounted(
    null_workplace: Workplace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = ask(null_workplace, job)

    def be_stopped(given: ExportSource, _sink: Sink) -> None:
        null_workplace.runtime.stopping.set()
        list(given.shown())

    with monkeypatch.context() as patch:
        writing(patch, be_stopped)
        run_exports(null_workplace.runtime)
    assert again(null_workplace, export).status is ExportStatus.QUEUED
    null_workplace.runtime.stopping.clear()
    with null_workplace.runtime.database.begin() as connection:
        claimed = export_runs.claim_export(connection, owner="next", lease_seconds=60)
    assert claimed is not None
    assert claimed[1].attempts == 1


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


def test_a_store_that_is_away_is_asked_again_but_not_for_ever(
    null_workplace: Workplace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = ask(null_workplace, job)

    def be_away(*_: object, **__: object) -> None:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(type(store_of(null_workplace, job)), "put_file", be_away)
    for _ in range(MAX_EXPORT_ATTEMPTS):
        run_exports(null_workplace.runtime)
        assert again(null_workplace, export).status is ExportStatus.RUNNING
        expire(null_workplace)
    run_exports(null_workplace.runtime)
    done = again(null_workplace, export)
    assert done.status is ExportStatus.FAILED
    assert done.error is not None
    assert "the store is away" in done.error["message"]


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


def stop_after_one_shard(workplace: Workplace) -> None:
    with workplace.runtime.database.begin() as connection:
        connection.execute(
            text("UPDATE shards SET available_at = now() + interval '1 hour' WHERE number > 0")
        )
    shard_run.run_shards(workplace.runtime)
    workplace.execute("UPDATE shards SET available_at = now()")


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


def test_a_process_makes_so_many_at_a_time_and_has_the_next_one_rung_for(
    null_workplace: Workplace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = null_workplace.runtime
    first, second, third = (ask(null_workplace, job, top_k=count) for count in (1, 2, 3))
    nested: list[ExportStatus] = []

    def look(*_: object) -> None:
        run_exports(runtime)
        nested.append(again(null_workplace, third).status)

    writing(monkeypatch, look)
    null_workplace.execute("DELETE FROM outbox")
    run_exports(runtime)
    assert set(nested) == {ExportStatus.QUEUED}
    assert {again(null_workplace, e).status for e in (first, second)} == {ExportStatus.SUCCEEDED}
    assert bells(null_workplace) > 0


def test_keys_take_turns(null_workplace: Workplace, job: Job) -> None:
    mine = [ask(null_workplace, job, top_k=count) for count in (1, 2)]
    with null_workplace.runtime.database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO api_keys (id, name, secret_sha256, is_admin) VALUES (:i, :i, :s, 'f')"
            ),
            {"i": "key_other", "s": b"other"},
        )
    theirs = ask(null_workplace, job, top_k=3)
    null_workplace.execute(
        f"UPDATE exports SET owner_key_id = 'key_other' WHERE id = '{theirs.id}'"
    )
    order = []
    for _ in range(3):
        with null_workplace.runtime.database.begin() as connection:
            claimed = export_runs.claim_export(connection, owner="w", lease_seconds=60)
        assert claimed is not None
        order.append(claimed[0].id)
    assert order == [mine[0].id, theirs.id, mine[1].id]


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


def test_nothing_is_left_in_the_folder_for_temporary_files(
    null_workplace: Workplace, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    def break_off(given: ExportSource, sink: Sink) -> None:
        next(given.shown())
        raise RuntimeError("a writer's fault")

    with monkeypatch.context() as patch:
        writing(patch, break_off)
        export = ask(null_workplace, job)
        run_exports(null_workplace.runtime)
    assert again(null_workplace, export).error == {
        "code": "export_failed",
        "message": "RuntimeError: a writer's fault",
    }
    assert [path for path in folder.rglob("*") if path.is_file()] == []
