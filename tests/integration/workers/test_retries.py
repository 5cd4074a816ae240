"""Failed images are run again; the folder's files come and go, the network answers at once."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from domain.errors import ImageError, ImageErrorCode
from domain.lifecycle import JobStatus
from domain.results import iter_images
from storage import jobs, object_keys, retention, retries, shards, slices
from storage.jobs import Job
from storage.progress import Progress, progress_of
from storage.results_store import results_store
from tests.integration.workers.conftest import Workplace
from workers import finish_run, planning_run, shard_run
from workers.sweeper import Sweeper

COUNT = 40
GONE = (3, 17, 18, 39)


class Killed(BaseException):
    """Nothing in a run catches it, as nothing catches SIGKILL."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 images of which 4 are not there, and one that nobody may read."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(COUNT):
        if number not in GONE:
            (folder / f"{number}.jpg").write_bytes(b"the null network does not look")
    names = [f"{number}.jpg" for number in range(COUNT)]
    lines = [{"image": name, "custom_id": name} for name in [*names, "s3://elsewhere/x.jpg"]]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def labelled(workplace: Workplace, folder: Path) -> Job:
    return workplace.run(workplace.submit_folder(folder, manifest="items.jsonl"))


def bring(folder: Path, *numbers: int) -> None:
    for number in numbers:
        (folder / f"{number}.jpg").write_bytes(b"here now")


def retry(workplace: Workplace, job: Job, *, codes: Collection[str] = ()) -> int | None:
    with workplace.runtime.database.begin() as connection:
        return retries.retry_job(connection, job.id, codes=codes)


def run_again(workplace: Workplace, job: Job) -> Job:
    shard_run.run_shards(workplace.runtime)
    finish_run.finish_job(workplace.runtime, job.id)
    return workplace.again(job)


def progress(workplace: Workplace, job: Job) -> Progress:
    with workplace.runtime.database.begin() as connection:
        return progress_of(connection, [job.id])[job.id]


def failures(workplace: Workplace, job: Job) -> dict[int, ImageErrorCode]:
    rows = workplace.images(job)
    assert [row.image_index for row in rows] == list(range(COUNT + 1))
    return {row.image_index: row.error_code for row in rows if row.error_code}


def die() -> None:
    raise Killed


def count_reads(
    workplace: Workplace,
    monkeypatch: pytest.MonkeyPatch,
    *,
    on_read: Mapping[str, Callable[[], object]] | None = None,
) -> list[str]:
    """The images read from now on; `on_read` is called first, by the image's name."""
    read_image, read = workplace.runtime.sources.read_image, list[str]()

    def remember(uri: str, **places: Any) -> bytes:
        name = uri.rpartition("/")[2].removeprefix("local:")
        read.append(name)
        (on_read or {}).get(name, lambda: None)()
        return read_image(uri, **places)

    monkeypatch.setattr(workplace.runtime.sources, "read_image", remember)
    return read


def test_only_failed_images_run_again_and_all_other_rows_stay(
    null_workplace: Workplace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = labelled(null_workplace, folder)
    before, found = null_workplace.images(job), null_workplace.instances(job)
    assert failures(null_workplace, job).keys() == {*GONE, COUNT}
    bring(folder, 3, 17, 18)
    read = count_reads(null_workplace, monkeypatch)
    assert retry(null_workplace, job) == 1
    again = null_workplace.again(job)
    assert (again.status, again.finished_at) == (JobStatus.RUNNING, None)
    job = run_again(null_workplace, job)
    assert sorted(read) == ["17.jpg", "18.jpg", "3.jpg", "39.jpg", "x.jpg"]
    assert (job.status, job.manifest_number) == (JobStatus.SUCCEEDED, 2)
    assert failures(null_workplace, job).keys() == {39, COUNT}
    after = null_workplace.images(job)
    kept = set(range(COUNT)) - set(GONE)
    assert [row for row in before if row.image_index in kept] == [
        row for row in after if row.image_index in kept
    ]
    new = null_workplace.instances(job)
    assert [row for row in new if row.image_index in kept] == found
    per_image = {index: [r.instance for r in new if r.image_index == index] for index in (0, 17)}
    assert per_image[17] == per_image[0] == list(range(len(per_image[0])))
    assert [row.image_index for row in new] == sorted(row.image_index for row in new)
    done = progress(null_workplace, job)
    assert (done.succeeded, done.failed, done.instances) == (39, 2, len(new))
    totals = null_workplace.manifest(job).totals
    assert (totals.succeeded, totals.failed, totals.instances) == (39, 2, len(new))


def test_only_failures_of_the_codes_asked_for_run_again(
    null_workplace: Workplace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = labelled(null_workplace, folder)
    assert retry_rolled_back(null_workplace, job, codes=["timeout", "truncated"]) == 0
    bring(folder, *GONE)
    read = count_reads(null_workplace, monkeypatch)
    assert retry(null_workplace, job, codes=["not_found", "timeout"]) == 1
    job = run_again(null_workplace, job)
    assert len(read) == len(GONE)
    assert failures(null_workplace, job) == {COUNT: ImageErrorCode.FORBIDDEN}
    assert retry_rolled_back(null_workplace, job, codes=["not_found"]) == 0


def retry_rolled_back(workplace: Workplace, job: Job, *, codes: Collection[str]) -> int | None:
    with workplace.runtime.database.begin() as connection:
        count = retries.retry_job(connection, job.id, codes=codes)
        transaction = connection.get_transaction()
        assert transaction is not None
        transaction.rollback()
    return count


def test_older_manifests_and_their_parts_stay_readable(
    null_workplace: Workplace, folder: Path
) -> None:
    job = labelled(null_workplace, folder)
    first = null_workplace.manifest(job)
    bring(folder, *GONE)
    retry(null_workplace, job)
    job = run_again(null_workplace, job)
    runtime = null_workplace.runtime
    Sweeper(runtime.settings, runtime.database).sweep(ring_for_jobs=False)
    store = results_store(job, settings=runtime.settings)
    rows = [row for part in first.parts for row in iter_images(store.get(part.images.key))]
    assert sum(not row.succeeded for row in rows) == len(GONE) + 1
    assert store.get(object_keys.manifest(1))
    assert null_workplace.manifest(job).number == 2
    with runtime.database.begin() as connection:
        keys = set(slices.keys_of_all_slices(connection, job.id))
    assert {part.images.key for part in first.parts} <= keys


def test_every_image_has_one_outcome_at_every_moment_of_a_retry(
    null_workplace: Workplace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = labelled(null_workplace, folder)
    bring(folder, *GONE)
    retry(null_workplace, job)
    seen: list[tuple[list[int], int]] = []

    def look() -> None:
        with null_workplace.runtime.database.begin() as connection:
            found = list(slices.all_committed_slices(connection, job.id))
            done = progress_of(connection, [job.id])[job.id]
        assert done.failed == sum(one.failed for one in found)
        assert done.instances == sum(one.parts["annotations"]["rows"] for one in found)
        assert done.succeeded + done.failed == COUNT + 1
        images = [one.first_image_index + n for one in found for n in range(one.count)]
        seen.append((images, done.failed))

    for name in ("open_slice", "complete_shard"):
        unwatched = getattr(shards, name)

        def watched(*args: Any, call: Any = unwatched, **options: Any) -> Any:
            look()
            return call(*args, **options)

        monkeypatch.setattr(shards, name, watched)
    run_again(null_workplace, job)
    look()
    assert all(images == list(range(COUNT + 1)) for images, _ in seen)
    assert seen[0][1] == len(GONE) + 1
    assert seen[-1][1] == 1


def test_an_image_that_kills_its_worker_in_a_retry_keeps_its_failure_and_the_rest_is_done(
    null_workplace: Workplace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = labelled(null_workplace, folder)
    bring(folder, *GONE)
    retry(null_workplace, job)
    with monkeypatch.context() as patch:
        count_reads(null_workplace, patch, on_read={"17.jpg": die})
        deaths = 0
        while deaths < 10:
            try:
                shard_run.run_shards(null_workplace.runtime)
                break
            except Killed:
                deaths += 1
                null_workplace.expire_leases()
    finish_run.finish_job(null_workplace.runtime, job.id)
    job = null_workplace.again(job)
    assert deaths <= 4
    assert job.status is JobStatus.SUCCEEDED
    assert failures(null_workplace, job).keys() == {17, COUNT}
    assert failures(null_workplace, job)[17] is ImageErrorCode.NOT_FOUND
    bring(folder, 17)
    retry(null_workplace, job)  # the dead of the last retry are forgotten in the next
    assert failures(null_workplace, run_again(null_workplace, job)).keys() == {COUNT}


def test_a_retry_that_is_cut_short_keeps_finished_images_and_goes_on_behind_them(
    null_workplace: Workplace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = labelled(null_workplace, folder)
    bring(folder, *GONE)
    retry(null_workplace, job)
    stopping = null_workplace.runtime.stopping
    with monkeypatch.context() as patch:
        read = count_reads(null_workplace, patch, on_read={"17.jpg": stopping.set})
        shard_run.run_shards(null_workplace.runtime)
    assert progress(null_workplace, job).failed == 3
    stopping.clear()
    later = count_reads(null_workplace, monkeypatch)
    job = run_again(null_workplace, job)
    assert {"3.jpg", "17.jpg"} <= set(read)
    assert sorted(later) == ["18.jpg", "39.jpg", "x.jpg"]
    assert failures(null_workplace, job).keys() == {COUNT}


def test_a_cancel_in_a_retry_keeps_the_old_results_and_the_job_can_be_tried_again(
    null_workplace: Workplace, folder: Path
) -> None:
    job = labelled(null_workplace, folder)
    rows = null_workplace.images(job)
    bring(folder, *GONE)
    retry(null_workplace, job)
    with null_workplace.runtime.database.begin() as connection:
        lease = shards.claim_shard(connection, owner="w", models=["null"], lease_seconds=60)
        assert lease is not None
        jobs.request_cancel(connection, job.id)
        assert shards.cancel_shard(connection, lease)
    job = run_again(null_workplace, job)
    assert job.status is JobStatus.CANCELED
    assert null_workplace.images(job) == rows
    assert progress(null_workplace, job).canceled == 0
    retry(null_workplace, job)
    job = run_again(null_workplace, job)
    assert job.status is JobStatus.SUCCEEDED
    assert failures(null_workplace, job).keys() == {COUNT}


def test_failures_of_a_canceled_job_run_again_and_what_never_ran_does_not(
    null_workplace: Workplace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = null_workplace.submit_folder(folder, manifest="items.jsonl")
    planning_run.plan_job(null_workplace.runtime, job.id)
    commit_slice = shards.commit_slice

    def cancel_after(connection: Any, *args: Any, **values: Any) -> None:
        commit_slice(connection, *args, **values)
        jobs.request_cancel(connection, job.id)
        null_workplace.runtime.stopping.set()

    with monkeypatch.context() as patch:
        patch.setattr(shards, "commit_slice", cancel_after)
        shard_run.run_shards(null_workplace.runtime)
    null_workplace.runtime.stopping.clear()
    job = run_again(null_workplace, job)
    before = progress(null_workplace, job)
    assert job.status is JobStatus.CANCELED
    assert before.canceled > 0
    assert before.failed > 0
    bring(folder, *GONE)
    assert retry(null_workplace, job) == 1
    job = run_again(null_workplace, job)
    after = progress(null_workplace, job)
    assert job.status is JobStatus.CANCELED
    assert (after.canceled, after.succeeded) == (before.canceled, before.succeeded + before.failed)


def test_where_a_part_is_not_what_was_written_its_failures_stay(
    null_workplace: Workplace, folder: Path
) -> None:
    job = labelled(null_workplace, folder)
    bring(folder, *GONE)
    retry(null_workplace, job)
    store = results_store(job, settings=null_workplace.runtime.settings)
    with null_workplace.runtime.database.begin() as connection:
        (damaged,) = slices.failures_of_shard(connection, job.id, 0)[:1]
    store.put(damaged.annotations_key, b"changed")
    job = run_again(null_workplace, job)
    assert (job.status, job.error) == (JobStatus.SUCCEEDED, None)
    assert progress(null_workplace, job).failed == len(GONE) + 1
    with null_workplace.runtime.database.begin() as connection:
        said = connection.execute(text("SELECT last_error FROM shards")).scalar_one()
    assert "is not what was written" in said


def test_images_that_fail_again_have_their_new_reason(
    null_workplace: Workplace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = labelled(null_workplace, folder)

    def be_slow() -> None:
        raise ImageError(ImageErrorCode.TIMEOUT, "slow")

    retry(null_workplace, job, codes=["not_found"])
    slow = {f"{number}.jpg": be_slow for number in GONE}
    count_reads(null_workplace, monkeypatch, on_read=slow)
    job = run_again(null_workplace, job)
    found = failures(null_workplace, job)
    assert {found[number] for number in GONE} == {ImageErrorCode.TIMEOUT}
    assert retry_rolled_back(null_workplace, job, codes=["not_found"]) == 0
    assert retry_rolled_back(null_workplace, job, codes=["timeout"]) == 1


def test_the_lists_of_a_job_that_is_tried_again_are_not_removed(
    null_workplace: Workplace, folder: Path
) -> None:
    job = labelled(null_workplace, folder)
    assert retry(null_workplace, job) == 1
    assert not take(null_workplace, job)


def take(workplace: Workplace, job: Job) -> bool:
    """As the retention policy does before it removes what belongs to a job."""
    with workplace.runtime.database.begin() as connection:
        return retention.take_job(connection, job)


def test_jobs_that_run_have_failed_or_are_being_cleaned_are_not_tried_again(
    null_workplace: Workplace, folder: Path
) -> None:
    job = labelled(null_workplace, folder)
    assert take(null_workplace, job)
    assert retry(null_workplace, job) is None
    null_workplace.execute("UPDATE jobs SET lease_owner = NULL")
    for status, cleaned_at in (("running", "NULL"), ("failed", "NULL"), ("succeeded", "now()")):
        null_workplace.execute(f"UPDATE jobs SET status = '{status}', cleaned_at = {cleaned_at}")
        assert retry(null_workplace, job) is None


def test_a_job_canceled_while_it_was_planned_is_not_whole_after_a_retry(
    null_workplace: Workplace, folder: Path
) -> None:
    """All that was planned is done, but nobody listed the rest of the source."""
    job = null_workplace.submit_folder(folder, manifest="items.jsonl")
    planning_run.plan_job(null_workplace.runtime, job.id)
    null_workplace.execute("UPDATE jobs SET status = 'planning', running_at = NULL")
    shard_run.run_shards(null_workplace.runtime)
    with null_workplace.runtime.database.begin() as connection:
        jobs.request_cancel(connection, job.id)
    finish_run.finish_job(null_workplace.runtime, job.id)
    bring(folder, *GONE)
    assert retry(null_workplace, job) == 1
    job = run_again(null_workplace, job)
    assert (job.status, progress(null_workplace, job).failed) == (JobStatus.CANCELED, 1)
