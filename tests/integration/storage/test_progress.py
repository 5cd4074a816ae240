"""Rates of simulated work that goes on at a known pace."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, text

from domain.lifecycle import JobStatus
from storage import jobs, shards, transitions
from storage.database import Database
from storage.progress import Progress, keep_totals, progress_of
from storage.shards import SliceCounts
from tests.integration.storage.rows import add_key, add_planned_job, claimed, open_slice

PARTS = {"annotations": {"rows": 0}, "images": {}, "item_categories": []}


@dataclass(frozen=True, slots=True)
class Done:
    """A slice; times are seconds before now."""

    images: int
    began: float
    ended: float


def one_worker(
    *, seconds: float, images: int, since: float, phase: float, ahead: int = 1
) -> Iterator[Done]:
    """Slices of `seconds` one after the other, the last of which is `phase` done. Each is opened
    while the `ahead - 1` before it still run."""
    ended = phase * seconds
    while ended + seconds <= since:
        yield Done(images, min(since, ended + ahead * seconds), ended)
        ended += seconds


def crew(workers: int, *, together: bool, phase: float, since: float) -> Iterator[Done]:
    for number in range(workers):
        own = phase if together else (phase + number / workers) % 1
        yield from one_worker(seconds=3, images=30, since=since, phase=own, ahead=2)


def taking_turns(*, phase: float, turn: float, since: float) -> Iterator[Done]:
    """Two jobs share one worker that does 10 images a second."""
    for done in one_worker(seconds=2.5, images=25, since=since, phase=0.5):
        if ((done.ended + phase * 2 * turn) // turn) % 2 == 0:
            yield done


Scene = tuple[float, Callable[[float], Iterator[Done]]]
SCENES: dict[str, Scene] = {
    "one worker": (10, lambda p: one_worker(seconds=3, images=30, since=600, phase=p, ahead=3)),
    "begun a minute ago": (10, lambda p: one_worker(seconds=3, images=30, since=60, phase=p)),
    "eight workers in turn": (80, lambda p: crew(8, together=False, phase=p, since=400)),
    "eight workers in step": (80, lambda p: crew(8, together=True, phase=p, since=400)),
    "begun a minute ago by eight": (80, lambda p: crew(8, together=False, phase=p, since=60)),
    "a fast network": (
        1280,
        lambda p: one_worker(seconds=0.05, images=64, since=200, phase=p, ahead=4),
    ),
    "half a minute an image": (
        1 / 30,
        lambda p: one_worker(seconds=30, images=1, since=4000, phase=p),
    ),
    "short turns with another job": (5, lambda p: taking_turns(phase=p, turn=2.5, since=300)),
    "long turns with another job": (5, lambda p: taking_turns(phase=p, turn=25, since=900)),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_rate_is_right_within_a_fifth_after_the_first_minute(
    database: Database, name: str
) -> None:
    rate, work = SCENES[name]
    rates = [measured(database, list(work(phase))) for phase in (0.01, 0.3, 0.6, 0.99)]
    assert all(0.8 * rate <= found <= 1.2 * rate for found in rates), rates


def test_uneven_work_of_many_workers_has_the_rate_of_its_mean(database: Database) -> None:
    dice = random.Random(7)
    slices = []
    for _ in range(12):
        ended = dice.uniform(0, 4)
        while ended < 500:
            seconds = dice.uniform(1, 5)
            slices.append(Done(dice.randint(16, 64), ended + seconds, ended))
            ended += seconds
    assert measured(database, slices) == pytest.approx(12 * 40 / 3, rel=0.2)


@pytest.mark.parametrize("seconds", [12, 30, 55, 90])
def test_a_pause_is_not_held_against_the_rate(database: Database, seconds: float) -> None:
    job_id = new_job(database)
    work = list(crew(2, together=False, phase=0.3, since=300))
    long_ago = seconds + 100
    before = [Done(d.images, d.began + long_ago, d.ended + long_ago) for d in work]
    after = crew(2, together=False, phase=0.3, since=seconds)
    with database.begin() as connection:
        add_slices(connection, job_id, [*before, *after])
        jobs.pause_job(connection, job_id)
        jobs.resume_job(connection, job_id)
        connection.execute(
            text("UPDATE events SET at = now() - make_interval(secs => :s) WHERE kind = :kind"),
            {"s": seconds, "kind": "job.resumed"},
        )
        found = progress_of(connection, [job_id])[job_id].per_second
    assert found == pytest.approx(20, rel=0.25 if seconds < 20 else 0.2)


def test_work_that_stands_still_has_an_ever_smaller_rate_and_then_none(database: Database) -> None:
    rates = []
    for still in (0, 60, 300, 700):
        work = one_worker(seconds=3, images=30, since=500, phase=0.5)
        slices = [Done(d.images, d.began + still, d.ended + still) for d in work]
        rates.append(measured_or_none(database, slices))
    assert rates[0] == pytest.approx(10, rel=0.2)
    assert rates[1]
    assert rates[2]
    assert rates[0] > rates[1] > rates[2] > 0
    assert rates[3] is None


def test_a_job_without_a_slice_has_no_rate(database: Database) -> None:
    assert measured_or_none(database, []) is None


def test_an_ended_job_shows_its_totals_whatever_becomes_of_its_shards(database: Database) -> None:
    key = add_key(database)
    job_id = add_planned_job(database, key, shard_count=3)
    lease = claimed(database)
    span = open_slice(database, lease, start=0, count=64)
    with database.begin() as connection:
        counts = SliceCounts(60, 4, 90)
        shards.commit_slice(connection, lease, span, counts=counts, parts=PARTS)
        transitions.cancel_pending_shards(connection, job_id)
        shards.cancel_shard(connection, lease)
        counted = progress_of(connection, [job_id])[job_id]
        transitions.move_job(connection, job_id, to=JobStatus.CANCELED)
        keep_totals(connection, job_id)
        connection.execute(text("DELETE FROM shards"))
        kept = progress_of(connection, [job_id, "job_none"])
    assert kept[job_id] == Progress(300, 0, 60, 4, 236, 90, None)
    assert (counted.total, counted.canceled, counted.instances) == (300, 236, 90)
    assert counted.per_second is not None
    assert kept["job_none"] == Progress()


def measured(database: Database, slices: list[Done]) -> float:
    found = measured_or_none(database, slices)
    assert found is not None
    return found


def measured_or_none(database: Database, slices: list[Done]) -> float | None:
    job_id = new_job(database)
    with database.begin() as connection:
        add_slices(connection, job_id, slices)
        return progress_of(connection, [job_id])[job_id].per_second


def new_job(database: Database) -> str:
    return add_planned_job(database, add_key(database), shard_count=1)


def add_slices(connection: Connection, job_id: str, slices: list[Done]) -> None:
    rows = [
        {"job": job_id, "start": n, "images": d.images, "began": d.began, "ended": d.ended}
        for n, d in enumerate(slices)
    ]
    if rows:
        connection.execute(_SLICE, rows)


_SLICE = text("""
    INSERT INTO slices (job_id, shard_number, start, token, count, status, annotations_key,
                        images_key, first_image_index, created_at, committed_at)
    VALUES (:job, 0, :start, 1, :images, 'committed', 'a', 'i', :start,
            now() - make_interval(secs => :began), now() - make_interval(secs => :ended))
""")
