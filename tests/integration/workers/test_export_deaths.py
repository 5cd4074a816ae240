"""A planner that dies in the middle of an export, with real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from domain.lifecycle import ExportStatus
from storage.exports import Export
from storage.jobs import Job
from tests.integration.workers.crew import Crew, open_crew
from tests.integration.workers.test_exports import again, ask, digests_of, keys_of, made, source
from tests.services import wait_until

IMAGES = 300  # more than a second of polygons
OPTIONS = {"format": "label-studio", "geometry": "polygon"}
SOON = {"MASKMILL_LEASE_SECONDS": "1"}


@pytest.fixture
def crew(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Crew]:
    with open_crew(database_url, broker_url, tmp_path) as crew:
        yield crew


def test_a_killed_planners_export_is_made_all_the_same_and_nothing_of_the_killed_run_stays(
    crew: Crew, tmp_path: Path
) -> None:
    place, scratch = crew.workplace, tmp_path / "scratch"
    scratch.mkdir()
    job = place.run(place.submit(source(IMAGES)))
    undisturbed = digests_of(made(place, job, **OPTIONS))
    place.execute("UPDATE exports SET deleted_at = now()")
    planner = crew.start("planning", TMPDIR=str(scratch), **SOON)
    export = ask(place, job, **OPTIONS)
    crew.publish()
    wait_until(lambda: again(place, export).images_read > 0 and left_by(crew, job, export))
    planner.kill()
    planner.wait()
    killed = again(place, export)
    assert killed.status is ExportStatus.RUNNING
    assert 0 < killed.images_read < IMAGES
    left = left_by(crew, job, export)
    assert left, "a file was stored"
    assert [path for path in scratch.rglob("*") if path.is_file()], "and others were begun"
    # Without a word from the first one: the sweeper finds the lease that has run out.
    crew.start_dispatcher(MASKMILL_LEASE_SECONDS="0.1")
    crew.start("planning", TMPDIR=str(scratch), **SOON)
    wait_until(lambda: again(place, export).status is ExportStatus.SUCCEEDED, seconds=60)
    done = again(place, export)
    assert digests_of(done) == undisturbed
    files = {file["key"] for file in done.files or ()}
    wait_until(lambda: set(keys_of(place, job)) == files, seconds=30)
    assert not files & left
    assert [path for path in scratch.rglob("*") if path.is_file()] == []
    assert runs_of(crew, export) == 2


def left_by(crew: Crew, job: Job, export: Export) -> set[str]:
    return {key for key in keys_of(crew.workplace, job) if export.id in key}


def runs_of(crew: Crew, export: Export) -> int:
    query = text(
        "SELECT count(*) FROM events WHERE kind = 'export.running' AND data->>'export_id' = :id"
    )
    with crew.workplace.runtime.database.begin() as connection:
        return int(connection.execute(query, {"id": export.id}).scalar_one())
