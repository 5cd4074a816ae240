"""A planner that dies in the middle of an export, with real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from domain.lifecycle import ExportStatus
from storage.exports import Export
from storage.jobs import Job
from tests.integration.workers.crew import Crew, open_crew
from tests.integration.workers.export_work import (
    again,
    ask,
    bells,
    digests_of,
    keys_of,
    made,
    source,
    tidy,
)
from tests.services import wait_until
from workers.export_run import run_exports
from workers.sweeper import Sweeper

IMAGES = 3000  # some seconds of polygons
OPTIONS = {"format": "label-studio", "geometry": "polygon"}


@pytest.fixture
def crew(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Crew]:
    with open_crew(database_url, broker_url, tmp_path) as crew:
        yield crew


def test_a_killed_planners_export_is_made_all_the_same_and_nothing_of_the_killed_run_stays(
    crew: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, scratch = crew.workplace, tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    job = place.run(place.submit(source(IMAGES)))
    undisturbed = digests_of(made(place, job, **OPTIONS))
    place.execute("UPDATE exports SET deleted_at = now()")
    planner = crew.start("planning", TMPDIR=str(scratch), MASKMILL_LEASE_SECONDS="1")
    export = ask(place, job, **OPTIONS)
    crew.publish()
    wait_until(lambda: again(place, export).images_read > 0 and left_by(crew, job, export))
    planner.kill()
    planner.wait()
    killed, left = again(place, export), left_by(crew, job, export)
    assert killed.status is ExportStatus.RUNNING
    assert 0 < killed.images_read < IMAGES
    assert files_below(scratch), "it was writing"
    wait_until(lambda: is_rung_for(crew))  # by nobody but the sweeper
    run_exports(place.runtime)
    done = again(place, export)
    assert done.status is ExportStatus.SUCCEEDED
    assert digests_of(done) == undisturbed
    assert files_below(scratch) == []
    tidy(place)
    files = {file["key"] for file in done.files or ()}
    assert set(keys_of(place, job)) == files
    assert not files & left
    assert runs_of(crew, export) == 2


def is_rung_for(crew: Crew) -> bool:
    runtime = crew.workplace.runtime
    Sweeper(runtime.settings, runtime.database).sweep(ring_for_jobs=True)
    return bells(crew.workplace) > 0


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def left_by(crew: Crew, job: Job, export: Export) -> set[str]:
    return {key for key in keys_of(crew.workplace, job) if export.id in key}


def runs_of(crew: Crew, export: Export) -> int:
    query = text(
        "SELECT count(*) FROM events WHERE kind = 'export.running' AND data->>'export_id' = :id"
    )
    with crew.workplace.runtime.database.begin() as connection:
        return int(connection.execute(query, {"id": export.id}).scalar_one())
