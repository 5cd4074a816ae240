from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from storage import object_keys, retention, retries
from storage.jobs import Job, find_job
from storage.object_store import StoreUnavailable
from storage.results_store import results_store
from tests.integration.workers.conftest import Workplace, open_workplace
from tests.s3_server import S3Bucket
from workers.retention import Retention

SHARD_IMAGES = 256


@pytest.fixture
def s3_workplace(
    database_url: str, tmp_path: Path, s3_bucket: S3Bucket
) -> Iterator[tuple[Workplace, S3Bucket]]:
    for workplace in open_workplace(
        database_url,
        tmp_path,
        allowed_sources=["null://"],
        allowed_outputs=[s3_bucket.uri],
        s3_endpoint_url=s3_bucket.endpoint_url,
        models=["null"],
    ):
        yield workplace, s3_bucket


def policy(workplace: Workplace, *, delete_after: float | None = None) -> Retention:
    settings = workplace.runtime.settings.model_copy(
        update={"delete_results_after_days": delete_after}
    )
    return Retention(settings, workplace.runtime.database)


def ended_job(workplace: Workplace, *, images: int = 600, days_ago: float, **options: Any) -> Job:
    source = {"type": "prefix", "uri": f"null://{images}"}
    job = workplace.run(workplace.submit(source, **options))
    assert job.finished_at is not None
    workplace.execute(
        f"UPDATE jobs SET finished_at = now() - interval '{days_ago} days' WHERE id = '{job.id}';"
        "INSERT INTO deliveries (id, job_id, kind, payload)"
        f" VALUES ('d-{job.id}', '{job.id}', 'job.succeeded', '{{}}')"
    )
    return job


def rows(workplace: Workplace, table: str, job: Job) -> int:
    column = "id" if table == "jobs" else "job_id"
    with workplace.runtime.database.begin() as connection:
        query = text(f"SELECT count(*) FROM {table} WHERE {column} = :id")
        return connection.execute(query, {"id": job.id}).scalar_one()


def objects(workplace: Workplace, prefix: str = "") -> list[str]:
    return [info.key for info in workplace.runtime.objects.list(prefix)]


def until_done(workplace: Workplace, look: Callable[[], None], **options: Any) -> int:
    """As if the process died after every single step; the number of processes it took."""
    for count in range(1000):
        look()
        before = state(workplace)
        policy(workplace, **options).keep_to_policy(seconds=0)
        if state(workplace) == before:
            return count
    raise AssertionError("it does not come to an end")


def state(workplace: Workplace) -> tuple[object, ...]:
    tables = ("jobs", "shards", "slices", "events", "deliveries")
    with workplace.runtime.database.begin() as connection:
        counts = [
            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in tables
        ]
        cleaned = connection.execute(text("SELECT count(cleaned_at) FROM jobs")).scalar_one()
    return (*counts, cleaned, len(objects(workplace)))


def test_what_mattered_while_a_job_ran_goes_and_its_result_stays(
    null_workplace: Workplace,
) -> None:
    old = ended_job(null_workplace, days_ago=31)
    fresh = ended_job(null_workplace, days_ago=29)
    kept = null_workplace.images(old)
    assert objects(null_workplace, object_keys.shard_lists(old.id))
    policy(null_workplace).keep_to_policy()
    assert rows(null_workplace, "events", old) == rows(null_workplace, "deliveries", old) == 0
    assert objects(null_workplace, object_keys.shard_lists(old.id)) == []
    assert null_workplace.again(old).cleaned_at is not None
    assert null_workplace.images(old) == kept
    assert len(kept) == 600
    assert rows(null_workplace, "shards", old) == 3
    assert null_workplace.again(fresh).cleaned_at is None
    assert rows(null_workplace, "events", fresh) > 3
    assert rows(null_workplace, "deliveries", fresh) == 1
    assert len(objects(null_workplace, object_keys.shard_lists(fresh.id))) == 3


def test_cleaning_goes_on_where_a_process_died_at_any_step(null_workplace: Workplace) -> None:
    jobs = [ended_job(null_workplace, days_ago=40 + number) for number in range(2)]

    def nothing_is_cleaned_by_halves() -> None:
        for job in jobs:
            if null_workplace.again(job).cleaned_at is not None:
                assert rows(null_workplace, "events", job) == 0
                assert objects(null_workplace, object_keys.shard_lists(job.id)) == []

    assert until_done(null_workplace, nothing_is_cleaned_by_halves) >= 2
    assert all(null_workplace.again(job).cleaned_at for job in jobs)
    assert all(len(null_workplace.images(job)) == 600 for job in jobs)


def test_deleting_goes_on_where_a_process_died_at_any_step_and_leaves_no_orphan(
    null_workplace: Workplace,
) -> None:
    job = ended_job(null_workplace, images=3000, days_ago=91)
    other = ended_job(null_workplace, images=10, days_ago=89)
    database = null_workplace.runtime.database
    kept = objects(null_workplace, object_keys.job_prefix(other.id))

    def every_part_has_a_row() -> None:
        parts = objects(null_workplace, object_keys.results_root(job.id) + object_keys.PARTS)
        with database.begin() as connection:
            named = retention.some_slices(connection, job.id, limit=10**6)
            is_there = find_job(connection, job.id) is not None
        keys = {key for one in named for key in (one.annotations_key, one.images_key)}
        root = object_keys.results_root(job.id)
        assert {part.removeprefix(root) for part in parts} <= keys
        assert is_there or objects(null_workplace, object_keys.job_prefix(job.id)) == []

    until_done(null_workplace, every_part_has_a_row, delete_after=90)
    for table in ("jobs", "shards", "slices", "events", "deliveries"):
        assert rows(null_workplace, table, job) == 0
    assert objects(null_workplace, object_keys.job_prefix(job.id)) == []
    left = objects(null_workplace, object_keys.job_prefix(other.id))
    assert left == [key for key in kept if "/shards/" not in key]
    assert len(null_workplace.images(other)) == 10


def test_nothing_is_deleted_unless_the_operator_says_so(null_workplace: Workplace) -> None:
    job = ended_job(null_workplace, days_ago=3000)
    policy(null_workplace).keep_to_policy()
    assert len(null_workplace.images(job)) == 600


def test_in_a_users_prefix_only_what_the_rows_name_is_deleted(
    s3_workplace: tuple[Workplace, S3Bucket],
) -> None:
    workplace, bucket = s3_workplace
    job = ended_job(workplace, days_ago=2, output=f"{bucket.uri}/masks")
    theirs = [f"masks/{job.id}/parts/mine.parquet", f"masks/{job.id}/notes.txt", "masks/a.png"]
    for key in theirs:
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"x")
    policy(workplace, delete_after=1).keep_to_policy()
    listed = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
    assert sorted(entry["Key"] for entry in listed) == sorted(theirs)
    assert rows(workplace, "jobs", job) == 0


def test_a_job_whose_store_is_away_does_not_keep_the_others(
    s3_workplace: tuple[Workplace, S3Bucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace, bucket = s3_workplace
    away = ended_job(workplace, images=10, days_ago=5, output=f"{bucket.uri}/masks")
    here = ended_job(workplace, images=10, days_ago=3)

    def refuse(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(
            type(results_store(away, settings=workplace.runtime.settings)), "delete", refuse
        )
        policy(workplace, delete_after=1).keep_to_policy()
    assert rows(workplace, "jobs", here) == 0
    assert rows(workplace, "slices", away) > 0
    policy(workplace, delete_after=1).keep_to_policy()
    assert rows(workplace, "jobs", away) == 0


def test_a_job_that_is_being_cleaned_is_not_tried_again(null_workplace: Workplace) -> None:
    job = ended_job(null_workplace, images=10, days_ago=31)
    policy(null_workplace).keep_to_policy(seconds=0)
    with null_workplace.runtime.database.begin() as connection:
        assert retention.take_job(connection, null_workplace.again(job))
        assert retries.retry_job(connection, job.id, codes=[]) is None


def test_a_job_that_was_tried_again_since_it_was_chosen_is_not_taken(
    null_workplace: Workplace,
) -> None:
    job = ended_job(null_workplace, images=10, days_ago=31)
    with null_workplace.runtime.database.begin() as connection:
        chosen = retention.job_to_clean(connection, days=30)
    assert chosen is not None
    null_workplace.execute(f"UPDATE jobs SET finished_at = now() WHERE id = '{job.id}'")
    with null_workplace.runtime.database.begin() as connection:
        assert not retention.take_job(connection, chosen)
        assert retention.take_job(connection, null_workplace.again(job))


@pytest.mark.parametrize("delete_after", [None, 1.0], ids=["cleaned", "deleted"])
def test_a_job_stays_until_its_webhooks_are_sent_or_given_up(
    null_workplace: Workplace, delete_after: float | None
) -> None:
    job = ended_job(null_workplace, images=10, days_ago=31)
    null_workplace.execute("UPDATE deliveries SET next_attempt_at = now() + interval '1 day'")
    before = state(null_workplace)
    policy(null_workplace, delete_after=delete_after).keep_to_policy()
    assert state(null_workplace) == before
    with null_workplace.runtime.database.begin() as connection:
        assert not retention.take_job(connection, null_workplace.again(job))
    null_workplace.execute("UPDATE deliveries SET next_attempt_at = NULL")
    policy(null_workplace, delete_after=delete_after).keep_to_policy()
    assert rows(null_workplace, "deliveries", job) == 0


def test_five_thousand_slices_are_deleted_a_bounded_number_at_once(
    null_workplace: Workplace,
) -> None:
    job = ended_job(null_workplace, images=10, days_ago=31)
    null_workplace.execute(f"""
        INSERT INTO shards (job_id, number, status, first_image_index, image_count, committed)
        SELECT '{job.id}', n, 'succeeded', 1000 + n, 1, 1 FROM generate_series(1, 5000) n;
        INSERT INTO slices (job_id, shard_number, start, token, count, status, annotations_key,
                            images_key, first_image_index)
        SELECT '{job.id}', n, 0, n, 1, 'committed', 'parts/' || n || 'a', 'parts/' || n || 'i',
               1000 + n FROM generate_series(1, 5000) n;
        INSERT INTO events (job_id, kind) SELECT '{job.id}', 'x' FROM generate_series(1, 12000)
    """)
    folder = null_workplace.folder / "objects" / object_keys.results_root(job.id) / "parts"
    for number in range(1, 5001):
        (folder / f"{number}a").touch()
        (folder / f"{number}i").touch()
    removed: list[tuple[str, int]] = []

    def note(_c: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE"):
            removed.append((statement.split()[2], cursor.rowcount))

    engine = null_workplace.runtime.database._engine
    event.listen(engine, "after_cursor_execute", note)
    policy(null_workplace, delete_after=1).keep_to_policy(seconds=60)
    event.remove(engine, "after_cursor_execute", note)
    assert rows(null_workplace, "jobs", job) == 0
    assert objects(null_workplace) == []
    assert sum(count for table, count in removed if table == "slices") > 5000
    assert max(count for _, count in removed) <= 5000
    assert max(count for table, count in removed if table == "slices") <= 500
