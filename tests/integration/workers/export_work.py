"""What tests of exports do by hand: ask for one, make it, look at what is there."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from domain import formats
from domain.exports import ExportCounts, ExportFormat, ExportOptions, ExportSource, Sink
from domain.lifecycle import ExportStatus
from storage import exports
from storage.exports import Export, NewExport
from storage.jobs import Job
from storage.object_store import ObjectStore
from storage.results_store import results_store
from storage.slices import committed_count, result_grew_at
from tests.integration.workers.conftest import Workplace
from workers import shard_run
from workers.export_run import run_exports
from workers.export_tidying import REST_LEASES, ExportTidying


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


def digests_of(export: Export) -> dict[str, str]:
    return {file["name"]: file["sha256"] for file in export.files or ()}


def expire(workplace: Workplace) -> None:
    workplace.execute("UPDATE exports SET lease_expires_at = now() - interval '1 second'")


def bells(workplace: Workplace) -> int:
    with workplace.runtime.database.begin() as connection:
        query = text("SELECT count(*) FROM outbox WHERE task = 'maskmill.run_exports'")
        return int(connection.execute(query).scalar_one())


def tidy(workplace: Workplace, *, later: bool = True) -> None:
    seconds = REST_LEASES * workplace.runtime.settings.lease_seconds + 1
    if later:
        workplace.execute(
            f"UPDATE exports SET finished_at = finished_at - interval '{seconds} seconds'"
        )
    ExportTidying(workplace.runtime.settings, workplace.runtime.database).tidy_some()


def stop_after_one_shard(workplace: Workplace) -> None:
    with workplace.runtime.database.begin() as connection:
        connection.execute(
            text("UPDATE shards SET available_at = now() + interval '1 hour' WHERE number > 0")
        )
    shard_run.run_shards(workplace.runtime)
    workplace.execute("UPDATE shards SET available_at = now()")


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
