"""Shards in order, early, and exactly once, however a planner ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text

from domain.documents import ItemDocument, NewItem
from domain.errors import LeaseLost
from domain.lifecycle import JobStatus
from domain.planning import MAX_SHARD_IMAGES
from migrations.__main__ import configuration
from storage import object_keys, outbox, shards
from storage.jobs import Job, JobLease, request_cancel
from storage.local_store import LocalStore
from storage.object_store import StoreUnavailable
from storage.s3_store import S3Store
from tests.integration.workers.conftest import Workplace, open_workplace
from tests.integration.workers.test_null_runs import null_source
from tests.s3_server import S3Bucket
from workers import finish_run, plan_writer, planning_run
from workers.planning_sources import Cursor, PlanningSource

IMAGES = 40 * MAX_SHARD_IMAGES + 7


class Died(BaseException):
    """What no code of ours catches, as a process that is killed runs no code of ours."""


def listed(workplace: Workplace, job: Job) -> list[ItemDocument]:
    """The images of all shards that are on record, as their runners will read them."""
    items = []
    for number, first, count, token in rows(workplace, job):
        body = workplace.runtime.objects.get(object_keys.shard_list(job.id, number, token=token))
        found = [ItemDocument.model_validate_json(line) for line in body.splitlines()]
        assert (found[0].index, len(found)) == (first, count)
        items += found
    return items


def rows(workplace: Workplace, job: Job) -> list[Any]:
    query = (
        "SELECT number, first_image_index, image_count, list_token FROM shards "
        "WHERE job_id = :id ORDER BY number"
    )
    with workplace.runtime.database.begin() as connection:
        return list(connection.execute(text(query), {"id": job.id}))


def dies_at(call: int, real: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    calls = iter(range(1, 10**6))

    def instead(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise error
        return real(*arguments, **options)

    return instead


@pytest.mark.parametrize("call", [1, 2, 17, 33, 41])
def test_a_list_that_cannot_be_written_delays_planning_and_loses_nothing(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    job = null_workplace.submit(null_source(IMAGES))
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put", dies_at(call, LocalStore.put, StoreUnavailable("full")))
        planning_run.plan_job(null_workplace.runtime, job.id)
    assert null_workplace.again(job).status is JobStatus.PLANNING
    assert_planned_by_the_next(null_workplace, job)


@pytest.mark.parametrize(
    ("module", "name"), [(shards, "add_shards"), (outbox, "ring")], ids=["shards", "doorbell"]
)
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_planner_that_dies_while_it_records_shards_leaves_all_or_none_of_them(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int
) -> None:
    job = null_workplace.submit(null_source(IMAGES))
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(module, name, dies_at(call, getattr(module, name), Died()))
        planning_run.plan_job(null_workplace.runtime, job.id)
    cursor = null_workplace.again(job).plan_cursor or {"shards": 0, "images": 0}
    assert len(rows(null_workplace, job)) == cursor["shards"]
    assert len(listed(null_workplace, job)) == cursor["images"]
    assert_planned_by_the_next(null_workplace, job)


def test_a_planner_that_was_frozen_past_its_lease_writes_over_no_list(
    null_workplace: Workplace,
) -> None:
    job = null_workplace.submit(null_source(IMAGES))
    planning_run.plan_job(null_workplace.runtime, job.id)
    planned = listed(null_workplace, job)
    stale = JobLease(job.id, job.model, token=0, attempts=1)
    others = [NewItem(index, "other.jpg", "null:other.jpg") for index in range(MAX_SHARD_IMAGES)]
    with (
        plan_writer.plan_writer(null_workplace.runtime, stale, cursor=Cursor()) as writer,
        pytest.raises(LeaseLost),
    ):
        writer.add(others)
    assert listed(null_workplace, job) == planned


def assert_planned_by_the_next(workplace: Workplace, job: Job) -> None:
    workplace.expire_leases()
    planning_run.plan_job(workplace.runtime, job.id)
    assert workplace.again(job).status is JobStatus.RUNNING
    items = listed(workplace, job)
    assert [item.index for item in items] == list(range(IMAGES))
    assert [item.image for item in items] == [f"{index:09d}.jpg" for index in range(IMAGES)]


def planned_while(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, look: Callable[[], None], count: int
) -> None:
    """Plan `count` images; `look` is called whenever a shard's worth has been taken."""

    def items(cursor: Cursor) -> Iterator[NewItem]:
        for index in range(cursor.images, count):
            if index % MAX_SHARD_IMAGES == 1:
                look()
            yield NewItem(index, f"{index}.jpg", f"null:{index}")

    @contextmanager
    def source(*_: Any, **__: Any) -> Iterator[PlanningSource]:
        yield PlanningSource("a test", items)

    monkeypatch.setattr(planning_run, "open_source", source)


def test_the_first_shard_waits_for_no_other(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    job = null_workplace.submit(null_source(1))
    planned_while(
        null_workplace, monkeypatch, lambda: seen.append(len(rows(null_workplace, job))), 2000
    )
    planning_run.plan_job(null_workplace.runtime, job.id)
    assert seen[:2] == [0, 1]
    assert len(rows(null_workplace, job)) == 8


def test_a_slow_source_has_its_shards_run_meanwhile(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_writer, "_RECORD_SECONDS", 0.0)
    seen: list[int] = []
    job = null_workplace.submit(null_source(1))
    planned_while(
        null_workplace, monkeypatch, lambda: seen.append(len(rows(null_workplace, job))), 2000
    )
    planning_run.plan_job(null_workplace.runtime, job.id)
    assert seen == [0, 1, 2, 3, 4, 5, 6, 7]


def test_large_lists_do_not_wait_for_each_other_in_memory(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_writer, "_MOST_WAITING_BYTES", 1)
    job = null_workplace.run(null_workplace.submit(null_source(2000)))
    assert job.status is JobStatus.SUCCEEDED
    with null_workplace.runtime.database.begin() as connection:
        kinds = "SELECT count(*) FROM events WHERE kind = 'shards.planned'"
        assert connection.execute(text(kinds)).scalar_one() == 8


def planned_in_turns(workplace: Workplace, job: Job) -> list[int]:
    """Ring as often as the job's own bells say; the number of shards after each turn."""
    counts = []
    while workplace.again(job).status is not JobStatus.RUNNING:
        bells = taken_bells(workplace)
        assert (outbox.Tasks.PLAN_JOB, {"job_id": job.id}) in bells, counts
        planning_run.plan_job(workplace.runtime, job.id)
        counts.append(len(rows(workplace, job)))
    return counts


def taken_bells(workplace: Workplace) -> list[tuple[str, dict[str, Any]]]:
    with workplace.runtime.database.begin() as connection:
        return [(bell.task, bell.arguments) for bell in outbox.take_bells(connection)]


def test_a_long_prefix_is_planned_in_turns_that_lose_and_repeat_nothing(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning_run, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(planning_run, "MAX_PLANNING_ATTEMPTS", 2)  # turns are none
    job = null_workplace.submit(null_source(4 * MAX_SHARD_IMAGES + 7))
    assert planned_in_turns(null_workplace, job) == [1, 2, 3, 4, 5, 5]
    assert [item.image for item in listed(null_workplace, job)] == [
        f"{index:09d}.jpg" for index in range(4 * MAX_SHARD_IMAGES + 7)
    ]


def test_a_manifest_has_longer_turns_which_count_from_their_first_shard(
    null_workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning_run, "TURN_SECONDS", 0.0)
    names = [f"{index}.jpg" for index in range(2 * MAX_SHARD_IMAGES + 7)]
    lines = "".join(f'{{"image": "{name}"}}\n' for name in names)
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "list.jsonl").write_text(lines)
    whole = null_workplace.submit_folder(tmp_path / "scenes", manifest="list.jsonl")
    assert planned_in_turns(null_workplace, whole) == [3]
    monkeypatch.setattr(planning_run, "LONG_TURN_SECONDS", 0.0)
    job = null_workplace.submit_folder(tmp_path / "scenes", manifest="list.jsonl")
    assert planned_in_turns(null_workplace, job) == [1, 2, 3, 3]
    assert [item.image for item in listed(null_workplace, job)] == names


def test_a_job_that_is_canceled_between_turns_is_finished_at_once(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning_run, "TURN_SECONDS", 0.0)
    job = null_workplace.submit(null_source(3 * MAX_SHARD_IMAGES))
    planning_run.plan_job(null_workplace.runtime, job.id)
    with null_workplace.runtime.database.begin() as connection:
        request_cancel(connection, job.id)
    finish_run.finish_job(null_workplace.runtime, job.id)
    assert null_workplace.again(job).status is JobStatus.CANCELED


@pytest.fixture
def crowded_bucket(s3_bucket: S3Bucket) -> S3Bucket:
    """With 12,000 images. They are put behind moto's back: over HTTP it would take a minute."""
    from moto.s3.models import s3_backends

    (account,) = [a for a, b in s3_backends.items() if s3_bucket.name in b["aws"].buckets]
    for number in range(12_000):
        key = f"photos/{number % 7}/{number:06d}.jpg"
        s3_backends[account]["aws"].put_object(s3_bucket.name, key, b"")
    return s3_bucket


def test_a_large_prefix_is_listed_page_by_page_in_flat_memory(
    crowded_bucket: S3Bucket, database_url: str, tmp_path: Path
) -> None:
    settings = {
        "s3_endpoint_url": crowded_bucket.endpoint_url,
        "allowed_sources": [crowded_bucket.uri],
        "models": ["null"],
    }
    for workplace in open_workplace(database_url, tmp_path, **settings):
        job = workplace.submit({"type": "prefix", "uri": f"{crowded_bucket.uri}/photos"})
        planning_run.plan_job(workplace.runtime, job.id)
        names = [item.image for item in listed(workplace, job)]
    assert names == sorted(f"{n % 7}/{n:06d}.jpg" for n in range(12_000))


def test_listing_holds_one_page_at_a_time(crowded_bucket: S3Bucket) -> None:
    pages: list[str] = []

    def count(**_: Any) -> None:
        pages.append("page")

    events = crowded_bucket.client.meta.events
    events.register("before-call.s3.ListObjectsV2", count)
    try:
        found = S3Store(crowded_bucket.client, crowded_bucket.name).list("photos/")
        assert len([next(found) for _ in range(1500)]) == 1500
    finally:
        events.unregister("before-call.s3.ListObjectsV2", count)
    assert len(pages) == 2


def test_planning_goes_on_after_an_upgrade_where_it_was(
    null_workplace: Workplace, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cursors of 0003 did not say how many images were read: as many as were planned."""
    job = null_workplace.submit(null_source(600))
    with monkeypatch.context() as patch:
        patch.setattr(planning_run, "TURN_SECONDS", 0.0)
        planning_run.plan_job(null_workplace.runtime, job.id)
    command.downgrade(configuration(database_url), "0003")
    command.upgrade(configuration(database_url), "head")
    assert null_workplace.run(job).status is JobStatus.SUCCEEDED
    assert [row.image for row in null_workplace.images(job)] == [
        f"{number:09d}.jpg" for number in range(600)
    ]
