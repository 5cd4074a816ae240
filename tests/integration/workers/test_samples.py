"""Jobs on hold: a sample is labelled, and the rest when the job is promoted, each image once."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask as coco_mask

from domain.documents import NewItem
from domain.lifecycle import JobStatus
from domain.results import InstanceRow
from domain.sampling import Sampler
from maskmill.sample_scenes import draw_scene
from storage import holds, jobs, object_keys, outbox, shards
from storage.jobs import Job
from storage.local_store import LocalStore
from storage.object_store import ObjectForbidden
from tests.integration.workers.conftest import Workplace
from tests.integration.workers.test_null_runs import null_source
from tests.integration.workers.test_planning import Died, dies_at, listed
from workers import finish_run, planning_run, sampling_run, shard_run
from workers.planning_sources import Cursor, PlanningSource

SCENES = 12
PROMPTS = ({"text": "red circle"}, {"text": "star"})


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for number in range(SCENES):
        draw_scene(number, size=256).image.save(folder / f"{number:02}.png")
    return folder


def ask(workplace: Workplace, job: Job, *, images: int) -> bool:
    with workplace.runtime.database.begin() as connection:
        return holds.ask_for_sample(connection, job.id, images=images)


def promote(workplace: Workplace, job: Job) -> None:
    with workplace.runtime.database.begin() as connection:
        holds.promote_job(connection, job.id)


def cursor_of(workplace: Workplace, job: Job) -> Cursor:
    return Cursor(**(workplace.again(job).plan_cursor or {}))


def found(workplace: Workplace, job: Job) -> list[InstanceRow]:
    """Clearly: in another batch, scores and the last pixels differ a little."""
    rows = (row for row in workplace.instances(job) if row.score >= 0.5)
    return sorted(rows, key=lambda row: (row.image, row.prompt_index, row.box))


def iou(one: InstanceRow, other: InstanceRow) -> float:
    masks = ([{"size": row.mask.size, "counts": row.mask.counts}] for row in (one, other))
    return float(coco_mask.iou(*masks, [False])[0, 0])


def test_a_job_on_hold_waits_for_a_sample_or_its_promotion(null_workplace: Workplace) -> None:
    job = null_workplace.submit(null_source(100), hold=True)
    assert null_workplace.run(job).status is JobStatus.QUEUED
    assert ask(null_workplace, job, images=10)
    null_workplace.run(job)
    held = null_workplace.again(job)
    assert (held.status, held.sample_shards) == (JobStatus.PLANNING, 1)
    assert [item.index for item in listed(null_workplace, job)] == list(range(10))
    assert null_workplace.run(job).status is JobStatus.PLANNING
    assert len(listed(null_workplace, job)) == 10


def test_a_job_has_one_sample_and_only_on_hold(null_workplace: Workplace) -> None:
    job = null_workplace.submit(null_source(100), hold=True)
    assert ask(null_workplace, job, images=10)
    assert not ask(null_workplace, job, images=20)
    other = null_workplace.submit(null_source(100))
    assert not ask(null_workplace, other, images=10)


def test_a_promoted_job_labels_the_others_and_its_result_equals_a_run_without_a_sample(
    workplace: Workplace, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = workplace.submit_folder(scenes, prompts=PROMPTS)
    assert workplace.run(plain).status is JobStatus.SUCCEEDED
    job = workplace.submit_folder(scenes, prompts=PROMPTS, hold=True)
    ask(workplace, job, images=5)
    workplace.run(job)
    sampled = [item.image for item in listed(workplace, job)]
    read: list[str] = []
    real = type(workplace.runtime.sources).read_image

    def reading(self: Any, uri: str, **options: Any) -> bytes:
        read.append(uri.rpartition(":")[2])
        return real(self, uri, **options)

    monkeypatch.setattr(type(workplace.runtime.sources), "read_image", reading)
    promote(workplace, job)
    assert workplace.run(job).status is JobStatus.SUCCEEDED
    assert len(sampled) == 5
    assert sorted(read + sampled) == sorted(path.name for path in scenes.iterdir())
    expected = found(workplace, plain)
    assert len(expected) > 5
    for one, other in zip(found(workplace, job), expected, strict=True):
        assert (one.image, one.prompt_index) == (other.image, other.prompt_index)
        assert one.score == pytest.approx(other.score, abs=1e-3)
        assert iou(one, other) > 0.98
    assert [row.image_index for row in workplace.images(job)] == list(range(SCENES))


def test_a_job_promoted_before_its_sample_is_drawn_draws_it_first(
    null_workplace: Workplace,
) -> None:
    job = null_workplace.submit(null_source(1000), hold=True)
    ask(null_workplace, job, images=10)
    promote(null_workplace, job)
    planning_run.plan_job(null_workplace.runtime, job.id)
    assert null_workplace.again(job).sample_shards == 1
    assert null_workplace.run(job).status is JobStatus.SUCCEEDED
    names = sorted(row.image for row in null_workplace.images(job))
    assert names == [f"{number:09d}.jpg" for number in range(1000)]


def test_a_job_promoted_without_a_sample_is_like_any_other(null_workplace: Workplace) -> None:
    job = null_workplace.submit(null_source(30), hold=True)
    promote(null_workplace, job)
    assert null_workplace.run(job).status is JobStatus.SUCCEEDED
    assert len(null_workplace.images(job)) == 30


def test_a_sample_of_more_images_than_there_are_is_all_of_them(null_workplace: Workplace) -> None:
    job = null_workplace.submit(null_source(7), hold=True)
    ask(null_workplace, job, images=50)
    null_workplace.run(job)
    assert cursor_of(null_workplace, job).source_images == 7
    promote(null_workplace, job)
    assert null_workplace.run(job).status is JobStatus.SUCCEEDED
    assert [row.image_index for row in null_workplace.images(job)] == list(range(7))


def test_a_long_source_is_sampled_in_turns_with_the_same_outcome(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(["job_same0000000000000000000001", "job_same0000000000000000000002"])
    monkeypatch.setattr(jobs, "new_id", lambda _prefix: next(ids))
    samplers: list[list[str]] = []
    for turn_seconds in (1e9, 0.0):
        job = null_workplace.submit(null_source(200), hold=True)
        ask(null_workplace, job, images=20)
        monkeypatch.setattr(planning_run, "TURN_SECONDS", turn_seconds)
        monkeypatch.setattr(
            sampling_run.Sampler, "_hash", lambda _self, position: position * 7919 % 10_007
        )
        turns = 0
        while null_workplace.again(job).sample_shards is None:
            planning_run.plan_job(null_workplace.runtime, job.id)
            turns += 1
        assert turns == (1 if turn_seconds else 201)
        samplers.append([item.image for item in listed(null_workplace, job)])
    assert samplers[0] == samplers[1]


@pytest.mark.parametrize(
    ("place", "name", "call"),
    [
        *((sampling_run, "put_list", call) for call in (1, 2, 3)),
        (shards, "add_shards", 1),
        (holds, "note_sample", 1),
        (outbox, "ring", 2),
    ],
)
def test_a_planner_that_dies_while_it_draws_is_followed_by_one_that_draws_the_same(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, call: int
) -> None:
    job = null_workplace.submit(null_source(1000), hold=True)
    sampler = Sampler[int](300, seed=job.id)
    for number in range(1000):
        sampler.offer(number, number)
    ask(null_workplace, job, images=300)
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(place, name, dies_at(call, getattr(place, name), Died()))
        planning_run.plan_job(null_workplace.runtime, job.id)
    assert listed(null_workplace, job) == []
    null_workplace.expire_leases()
    planning_run.plan_job(null_workplace.runtime, job.id)
    sampled = [item.image for item in listed(null_workplace, job)]
    assert sampled == [f"{number:09d}.jpg" for number in sampler.chosen()]
    assert null_workplace.again(job).sample_shards == 2
    promote(null_workplace, job)
    assert null_workplace.run(job).status is JobStatus.SUCCEEDED
    names = sorted(row.image for row in null_workplace.images(job))
    assert names == [f"{number:09d}.jpg" for number in range(1000)]


def test_a_sample_that_the_services_store_does_not_give_is_no_fault_of_the_source(
    workplace: Workplace, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = workplace.submit_folder(scenes, hold=True)
    ask(workplace, job, images=5)
    workplace.run(job)
    promote(workplace, job)
    with monkeypatch.context() as patch:
        refused = ObjectForbidden("no longer these credentials")
        patch.setattr(LocalStore, "get", dies_at(1, LocalStore.get, refused))
        planning_run.plan_job(workplace.runtime, job.id)
    assert workplace.again(job).error is None
    workplace.expire_leases()
    assert workplace.run(job).status is JobStatus.SUCCEEDED
    assert len(workplace.images(job)) == SCENES


def test_a_turn_begins_with_the_first_image_that_it_reads(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest is read again up to there, and that may take longer than a turn."""
    job = null_workplace.submit(null_source(200), hold=True)
    ask(null_workplace, job, images=20)
    real = planning_run.open_source

    @contextmanager
    def slow(*arguments: Any, **options: Any) -> Iterator[PlanningSource]:
        with real(*arguments, **options) as source:

            def items(cursor: Cursor) -> Iterator[NewItem]:
                time.sleep(0.5)
                yield from source.items(cursor)

            yield replace(source, items=items)

    monkeypatch.setattr(planning_run, "open_source", slow)
    monkeypatch.setattr(planning_run, "TURN_SECONDS", 0.4)
    planning_run.plan_job(null_workplace.runtime, job.id)
    assert null_workplace.again(job).sample_shards == 1 or cursor_of(null_workplace, job).read > 1


def test_an_image_that_a_manifest_names_twice_is_labelled_twice(
    workplace: Workplace, scenes: Path, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    shutil.copytree(scenes, root)
    lines = [f'{{"image": "{n % 3:02}.png", "custom_id": "line {n}"}}' for n in range(9)]
    (root / "images.jsonl").write_text("\n".join(lines))
    job = workplace.submit_folder(root, manifest="images.jsonl", hold=True)
    ask(workplace, job, images=4)
    workplace.run(job)
    promote(workplace, job)
    assert workplace.run(job).status is JobStatus.SUCCEEDED
    ids = sorted(str(row.custom_id) for row in workplace.images(job))
    assert ids == [f"line {n}" for n in range(9)]


def test_a_manifest_that_has_changed_since_is_refused(
    workplace: Workplace, scenes: Path, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    shutil.copytree(scenes, root)
    names = [f"{n:02}.png" for n in range(SCENES)]
    (root / "images.txt").write_text("\n".join(names))
    job = workplace.submit_folder(root, manifest="images.txt", hold=True)
    ask(workplace, job, images=SCENES - 1)
    workplace.run(job)
    (root / "images.txt").write_text("\n".join(names[::-1]))
    promote(workplace, job)
    ended = workplace.run(job)
    assert ended.status is JobStatus.FAILED
    assert ended.error is not None
    assert ended.error["code"] == "source_changed"
    assert len(workplace.images(job)) == SCENES - 1  # the sample's stay


def test_a_manifest_that_is_shorter_than_when_it_was_sampled_is_refused(
    workplace: Workplace, scenes: Path, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    shutil.copytree(scenes, root)
    names = [f"{n:02}.png" for n in range(SCENES)]
    (root / "images.txt").write_text("\n".join(names))
    job = workplace.submit_folder(root, manifest="images.txt", hold=True)
    ask(workplace, job, images=SCENES)
    workplace.run(job)
    (root / "images.txt").write_text("\n".join(names[:-1]))
    promote(workplace, job)
    ended = workplace.run(job)
    assert ended.status is JobStatus.FAILED
    assert ended.error is not None
    assert ended.error["code"] == "source_changed"
    assert len(workplace.images(job)) == SCENES


def test_an_image_that_came_since_is_labelled_with_the_others(
    workplace: Workplace, scenes: Path, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    shutil.copytree(scenes, root)
    job = workplace.submit_folder(root, hold=True)
    ask(workplace, job, images=6)
    workplace.run(job)
    shutil.copy(root / "03.png", root / "00-new.png")
    promote(workplace, job)
    assert workplace.run(job).status is JobStatus.SUCCEEDED
    names = sorted(row.image for row in workplace.images(job))
    assert names == sorted(path.name for path in root.iterdir())


def test_a_canceled_job_on_hold_keeps_its_sample(null_workplace: Workplace) -> None:
    job = null_workplace.submit(null_source(100), hold=True)
    ask(null_workplace, job, images=10)
    null_workplace.run(job)
    with null_workplace.runtime.database.begin() as connection:
        jobs.request_cancel(connection, job.id)
    finish_run.finish_job(null_workplace.runtime, job.id)
    assert null_workplace.again(job).status is JobStatus.CANCELED
    assert len(null_workplace.images(job)) == 10


def test_a_source_without_images_fails_the_job(workplace: Workplace, tmp_path: Path) -> None:
    job = workplace.submit_folder(tmp_path, hold=True)
    ask(workplace, job, images=10)
    ended = workplace.run(job)
    assert ended.status is JobStatus.FAILED
    assert ended.error is not None
    assert ended.error["code"] == "no_images"


def test_the_lists_of_a_sample_lie_with_those_of_the_shards(null_workplace: Workplace) -> None:
    """So that whatever removes a job's lists removes them too."""
    job = null_workplace.submit(null_source(20), hold=True)
    ask(null_workplace, job, images=5)
    planning_run.plan_job(null_workplace.runtime, job.id)
    token = cursor_of(null_workplace, job).sample_token
    assert token is not None
    key = object_keys.sample_list(job.id, token=token)
    assert key.startswith(object_keys.shard_lists(job.id))
    assert null_workplace.runtime.objects.exists(key)
    shard_run.run_shards(null_workplace.runtime)
