"""Exports where a result, a disk, a store or a caller is against them."""

import json
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from domain.exports import ExportSource, Sink
from domain.lifecycle import ExportStatus
from storage import exports, object_keys
from storage.exports import Export, NewExport
from storage.jobs import Job
from tests.integration.workers.conftest import Workplace
from tests.integration.workers.export_work import (
    again,
    ask,
    expire,
    keys_of,
    made,
    source,
    stop_after_one_shard,
    store_of,
    tidy,
    writing,
)
from workers import export_run, finish_run, planning_run, shard_run
from workers.export_run import run_exports


def cancel(workplace: Workplace, export: Export) -> None:
    with workplace.runtime.database.begin() as connection:
        exports.request_cancel(connection, export.id)


def test_a_result_that_grows_while_it_is_listed_is_shown_as_it_was_at_one_moment(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = null_workplace.submit(source(300))
    planning_run.plan_job(null_workplace.runtime, job.id)
    stop_after_one_shard(null_workplace)
    null_workplace.runtime.stopping.clear()
    count = finish_run.manifest_without_parts

    def count_before_it_grows(*arguments: Any, **options: Any) -> Any:
        frame = count(*arguments, **options)
        shard_run.run_shards(null_workplace.runtime)
        return frame

    export = ask(null_workplace, job, partial=True, format="coco")
    monkeypatch.setattr(export_run, "manifest_without_parts", count_before_it_grows)
    run_exports(null_workplace.runtime)
    done = again(null_workplace, export)
    assert done.report is not None
    (provenance,) = (f for f in done.files or () if f["name"] == "maskmill.json")
    said = json.loads(store_of(null_workplace, job).get(provenance["key"]))["images"]
    assert done.report["images"] == done.images_total == said < 300


def test_a_manifest_that_is_damaged_in_the_middle_fails_the_export_as_a_damaged_part_does(
    null_workplace: Workplace, job: Job
) -> None:
    store, key = store_of(null_workplace, job), object_keys.manifest(1)
    content = store.get(key)
    store.put(key, content.replace(b'"sha256":"', b'"sha256":"?', 1))
    export = ask(null_workplace, job)
    run_exports(null_workplace.runtime)
    error = again(null_workplace, export).error
    assert error is not None
    assert (error["code"], "manifest" in error["message"]) == ("result_damaged", True)


def test_a_cancel_that_comes_after_the_last_file_is_still_a_cancel(
    null_workplace: Workplace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, make = ask(null_workplace, job), export_run._made

    def make_and_cancel(run: Any) -> Any:
        done = make(run)
        cancel(null_workplace, export)
        return done

    monkeypatch.setattr(export_run, "_made", make_and_cancel)
    run_exports(null_workplace.runtime)
    ended = again(null_workplace, export)
    assert (ended.status, ended.files) == (ExportStatus.CANCELED, None)
    tidy(null_workplace)
    assert keys_of(null_workplace, job) == []


def test_a_cancel_is_heard_within_an_image_of_many_instances(
    null_workplace: Workplace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = ask(null_workplace, job)

    def never_come_to_the_next_image(given: ExportSource, _sink: Sink) -> None:
        image, pause = next(given.shown()), threading.Event()
        cancel(null_workplace, export)
        for _ in range(10_000):
            for _ in image.instances:
                pause.wait(0.001)
        raise AssertionError("nobody stopped it")

    writing(monkeypatch, never_come_to_the_next_image)
    run_exports(null_workplace.runtime)
    assert again(null_workplace, export).status is ExportStatus.CANCELED


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """As on a full disk, the kernel refuses what goes beyond."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_without_room_is_told_without_its_paths_and_tried_again(
    null_workplace: Workplace, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    export = ask(null_workplace, job)

    def write_much(_given: ExportSource, sink: Sink) -> None:
        with sink.file("large.bin") as out:
            for _ in range(32):
                out.write(bytes(2**20))

    with monkeypatch.context() as patch:
        writing(patch, write_much)
        with files_of_at_most(16 * 2**20):
            run_exports(null_workplace.runtime)
    put_off = again(null_workplace, export)
    assert put_off.status is ExportStatus.RUNNING
    assert put_off.error == {"code": "export_failed", "message": "File too large"}
    assert [path for path in scratch.rglob("*") if path.is_file()] == []
    expire(null_workplace)
    run_exports(null_workplace.runtime)
    assert again(null_workplace, export).status is ExportStatus.SUCCEEDED


def test_a_store_that_refuses_fails_the_export_at_once(null_workplace: Workplace, job: Job) -> None:
    root = null_workplace.folder / "objects/jobs" / job.id / "results"
    (root / "exports").write_text("in the way")
    export = ask(null_workplace, job)
    run_exports(null_workplace.runtime)
    ended = again(null_workplace, export)
    assert ended.error is not None
    assert (ended.status, ended.error["code"]) == (ExportStatus.FAILED, "store_refused")
    assert str(null_workplace.folder) not in ended.error["message"]
    (root / "exports").unlink()
    assert made(null_workplace, job).id != export.id


def test_an_export_that_ends_while_another_is_asked_for_does_not_stand_in_its_way(
    null_workplace: Workplace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between finding that there is one and reading it."""
    first, look = ask(null_workplace, job), exports._same
    seen: list[Export | None] = []

    def look_too_late(connection: Any, new: NewExport) -> Export | None:
        if not seen:
            cancel(null_workplace, first)
        seen.append(look(connection, new))
        return seen[-1]

    monkeypatch.setattr(exports, "_same", look_too_late)
    second = ask(null_workplace, job)
    assert seen == [None]
    assert second.id != first.id
    assert again(null_workplace, first).status is ExportStatus.CANCELED
