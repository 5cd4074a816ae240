"""Runs of exports that are killed, stopped, canceled or follow each other, on a real database."""

import threading
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from domain.exports import ExportSource, Sink
from domain.lifecycle import ExportStatus
from storage import export_runs, exports
from storage.exports import Export
from storage.jobs import Job
from storage.object_store import StoreUnavailable
from tests.integration.workers.conftest import Workplace
from tests.integration.workers.export_work import (
    again,
    ask,
    bells,
    expire,
    keys_of,
    store_of,
    tidy,
    writing,
)
from workers.export_run import MAX_EXPORT_ATTEMPTS, run_exports
from workers.sweeper import Sweeper


class Killed(BaseException):
    """As SIGKILL would: nothing in the code catches it."""


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
