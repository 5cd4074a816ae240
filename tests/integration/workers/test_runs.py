import json
from pathlib import Path
from typing import Any

import pytest

from domain.errors import ImageErrorCode
from domain.lifecycle import JobStatus
from maskmill.sample_scenes import Scene, draw_scene
from storage import jobs, shards
from storage.object_store import ObjectForbidden, StoreUnavailable
from storage.progress import progress_of
from tests.integration.workers.conftest import Workplace
from workers import engines, finish_run, planning_run, shard_run
from workers.engine.checkpoint import CheckpointError


def draw_folder(folder: Path, count: int) -> list[Scene]:
    folder.mkdir()
    scenes = [draw_scene(seed, size=256) for seed in range(count)]
    for number, scene in enumerate(scenes):
        (folder / f"{number:04d}.png").write_bytes(scene.encoded())
    return scenes


@pytest.fixture
def scenes_folder(tmp_path: Path) -> Path:
    draw_folder(tmp_path / "scenes", 10)
    return tmp_path / "scenes"


def test_a_folder_becomes_masks_of_what_was_named(workplace: Workplace, tmp_path: Path) -> None:
    scenes = draw_folder(tmp_path / "scenes", 12)
    job = workplace.run(workplace.submit_folder(tmp_path / "scenes", prompts=[{"text": "circle"}]))
    assert job.status is JobStatus.SUCCEEDED
    rows = workplace.images(job)
    assert [row.image for row in rows] == [f"{n:04d}.png" for n in range(12)]
    assert {(row.error_message, row.width, row.height) for row in rows} == {(None, 256, 256)}
    drawn = [sum(o.shape == "circle" for o in scene.objects) for scene in scenes]
    found = [0] * 12
    for instance in workplace.instances(job):
        found[instance.image_index] += instance.score >= 0.5
    assert sum(a == b for a, b in zip(drawn, found, strict=True)) >= 10


def test_a_bad_image_is_a_result_and_the_others_are_labelled(
    workplace: Workplace, scenes_folder: Path
) -> None:
    (scenes_folder / "0003.png").write_bytes(b"not an image")
    (scenes_folder / "0005.png").write_bytes((scenes_folder / "0005.png").read_bytes()[:200])
    job = workplace.run(workplace.submit_folder(scenes_folder))
    codes = {row.image: row.error_code for row in workplace.images(job) if not row.succeeded}
    assert job.status is JobStatus.SUCCEEDED
    assert codes == {
        "0003.png": ImageErrorCode.UNSUPPORTED,
        "0005.png": ImageErrorCode.TRUNCATED,
    }
    assert workplace.manifest(job).totals.failed == 2


def test_items_bring_their_own_prompts_and_ids(workplace: Workplace, scenes_folder: Path) -> None:
    scene = draw_scene(1, size=256)
    target = scene.objects[0]
    x0, y0, x1, y1 = target.box
    box = {"x0": x0, "y0": y0, "x1": x1, "y1": y1}
    lines: list[dict[str, Any]] = [
        {"image": "0000.png", "custom_id": "plain"},
        {"image": "0001.png", "custom_id": "mine", "prompts": [
            {"text": target.shape, "class_name": "target"},
            {"box": box, "class_name": "pointed at"},
        ]},
    ]  # fmt: skip
    (scenes_folder / "items.jsonl").write_text("\n".join(map(json.dumps, lines)))
    job = workplace.run(workplace.submit_folder(scenes_folder, manifest="items.jsonl"))
    assert [row.custom_id for row in workplace.images(job)] == ["plain", "mine"]
    own = [i for i in workplace.instances(job) if i.custom_id == "mine"]
    assert {(i.prompt_index, i.category) for i in own} == {(1, "target"), (2, "pointed at")}
    (pointed,) = [i for i in own if i.prompt_index == 2]
    assert abs(pointed.area - target.mask.sum()) < 0.3 * target.mask.sum()
    assert workplace.manifest(job).categories == ["red circle", "pointed at", "target"]


@pytest.mark.parametrize(
    "reference",
    ["file:///etc/passwd", "/etc/passwd", "../../etc/passwd", "local:x", "s3://other/a"],
)
def test_what_nobody_may_name_fails_its_image_as_forbidden(
    workplace: Workplace, scenes_folder: Path, reference: str
) -> None:
    (scenes_folder / "list.txt").write_text(f"0000.png\n{reference}\n")
    job = workplace.run(workplace.submit_folder(scenes_folder, manifest="list.txt"))
    assert [row.error_code for row in workplace.images(job)] == [None, ImageErrorCode.FORBIDDEN]


def test_a_broken_line_fails_the_job_with_its_number_and_leaves_nothing(
    workplace: Workplace, scenes_folder: Path
) -> None:
    lines = ['{"image": "0000.png"}'] * 300 + ['{"image": ']
    (scenes_folder / "items.jsonl").write_text("\n".join(lines))
    job = workplace.submit_folder(scenes_folder, manifest="items.jsonl")
    planning_run.plan_job(workplace.runtime, job.id)
    finish_run.finish_job(workplace.runtime, job.id)
    job = workplace.again(job)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["line"]) == ("manifest_invalid", 301)
    assert list(workplace.runtime.objects.list()) == []


def test_an_empty_folder_fails_the_job_and_says_so(workplace: Workplace, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    job = workplace.run(workplace.submit_folder(tmp_path / "empty"))
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "no_images"


def test_a_prompt_too_long_for_the_network_fails_the_job(
    workplace: Workplace, scenes_folder: Path
) -> None:
    job = workplace.run(workplace.submit_folder(scenes_folder, prompts=[{"text": "red " * 33}]))
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "prompt_too_long"


def test_planning_goes_on_where_a_dead_planner_stopped(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(600):
        (folder / f"{number:04d}.png").touch()
    job = workplace.submit_folder(folder)
    add_shards = shards.add_shards

    def die_at_the_second(connection: Any, job_id: str, new: Any) -> None:
        if new[0].number == 1:
            raise KeyboardInterrupt
        add_shards(connection, job_id, new)

    monkeypatch.setattr(shards, "add_shards", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        planning_run.plan_job(workplace.runtime, job.id)
    monkeypatch.undo()
    workplace.expire_leases()
    job = workplace.run(job)
    assert job.status is JobStatus.SUCCEEDED
    rows = workplace.images(job)
    assert [row.image_index for row in rows] == list(range(600))
    assert [row.image for row in rows] == [f"{n:04d}.png" for n in range(600)]
    assert {row.error_code for row in rows} == {ImageErrorCode.TRUNCATED}


def test_a_stop_keeps_finished_images_and_gives_the_shard_back(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_folder(tmp_path / "scenes", 40)
    job = workplace.submit_folder(tmp_path / "scenes")
    planning_run.plan_job(workplace.runtime, job.id)
    read_image = workplace.runtime.sources.read_image

    def stop_soon(uri: str, **places: Any) -> bytes:
        if uri.endswith("0020.png"):
            workplace.runtime.stopping.set()
        return read_image(uri, **places)

    monkeypatch.setattr(workplace.runtime.sources, "read_image", stop_soon)
    shard_run.run_shards(workplace.runtime)
    with workplace.runtime.database.begin() as connection:
        kept = progress_of(connection, [job.id])[job.id]
    assert 0 < kept.succeeded < 40
    assert kept.processing == 0
    monkeypatch.undo()
    workplace.runtime.stopping.clear()
    job = workplace.run(job)
    assert [row.image_index for row in workplace.images(job)] == list(range(40))


def test_an_image_that_kills_its_worker_is_found_and_the_rest_is_done(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The death is an exception that nothing in the run catches, as SIGKILL would be."""
    draw_folder(tmp_path / "scenes", 100)
    job = workplace.submit_folder(tmp_path / "scenes")
    planning_run.plan_job(workplace.runtime, job.id)
    read_image = workplace.runtime.sources.read_image

    class Killed(BaseException):
        pass

    def poison(uri: str, **places: Any) -> bytes:
        if uri.endswith("0070.png"):
            raise Killed
        return read_image(uri, **places)

    monkeypatch.setattr(workplace.runtime.sources, "read_image", poison)
    deaths = 0
    while True:
        try:
            shard_run.run_shards(workplace.runtime)
            break
        except Killed:
            deaths += 1
            workplace.expire_leases()
    finish_run.finish_job(workplace.runtime, job.id)
    rows = workplace.images(workplace.again(job))
    assert [row.image_index for row in rows] == list(range(100))
    assert [row.image for row in rows if not row.succeeded] == ["0070.png"]
    assert deaths <= 5


def test_an_infrastructure_fault_is_retried_and_costs_nothing(
    workplace: Workplace, scenes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = workplace.submit_folder(scenes_folder)
    planning_run.plan_job(workplace.runtime, job.id)

    def away(key: str, **options: Any) -> bytes:
        raise StoreUnavailable("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(type(workplace.runtime.objects), "get", lambda self, key, **o: away(key))
        shard_run.run_shards(workplace.runtime)
    with workplace.runtime.database.begin() as connection:
        assert not shards.models_with_work(connection)
    workplace.execute("UPDATE shards SET available_at = now()")
    assert workplace.run(job).status is JobStatus.SUCCEEDED


def test_a_cancel_keeps_what_is_done(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_folder(tmp_path / "scenes", 120)
    job = workplace.submit_folder(tmp_path / "scenes")
    planning_run.plan_job(workplace.runtime, job.id)
    commit_slice = shards.commit_slice

    def cancel_after(connection: Any, *args: Any, **values: Any) -> None:
        commit_slice(connection, *args, **values)
        jobs.request_cancel(connection, job.id)

    monkeypatch.setattr(shards, "commit_slice", cancel_after)
    shard_run.run_shards(workplace.runtime)
    finish_run.finish_job(workplace.runtime, job.id)
    job = workplace.again(job)
    assert job.status is JobStatus.CANCELED
    assert 0 < len(workplace.images(job)) < 120
    with workplace.runtime.database.begin() as connection:
        progress = progress_of(connection, [job.id])[job.id]
    assert progress.succeeded + progress.canceled == 120


def test_a_planner_that_fails_again_and_again_ends_the_job_and_keeps_what_is_labelled(
    workplace: Workplace, scenes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        (scenes_folder / f"x{number:04d}.png").touch()
    job = workplace.submit_folder(scenes_folder)
    put = type(workplace.runtime.objects).put

    def full_disk(self: Any, key: str, data: bytes, **options: Any) -> None:
        if "/00000001-t" in key:
            raise StoreUnavailable("no space left on device")
        put(self, key, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(workplace.runtime.objects), "put", full_disk)
        for _ in range(planning_run.MAX_PLANNING_ATTEMPTS + 1):
            planning_run.plan_job(workplace.runtime, job.id)
            workplace.expire_leases()
    shard_run.run_shards(workplace.runtime)
    finish_run.finish_job(workplace.runtime, job.id)
    job = workplace.again(job)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "planning_failed"
    assert job.manifest_number == 1


def test_a_store_that_refuses_the_results_fails_the_job(
    workplace: Workplace, scenes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = workplace.submit_folder(scenes_folder)
    planning_run.plan_job(workplace.runtime, job.id)
    shard_run.run_shards(workplace.runtime)

    def refuse(self: Any, key: str, path: Path, **options: Any) -> None:
        raise ObjectForbidden(key)

    with monkeypatch.context() as patch:
        patch.setattr(type(workplace.runtime.objects), "put_file", refuse)
        for _ in range(finish_run.MAX_FINISHING_ATTEMPTS):
            finish_run.finish_job(workplace.runtime, job.id)
            workplace.expire_leases()
    job = workplace.again(job)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "results_not_written"


def test_a_default_model_that_nobody_can_load_fails_its_jobs_with_the_reason(
    workplace: Workplace, scenes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the worker: it would be started again and again, and the job would wait for ever."""

    def broken(model: str, **options: Any) -> Any:
        raise CheckpointError("the reference engine needs a CUDA device")

    monkeypatch.setattr(engines, "load_engine", broken)
    workplace.runtime.engines.warm_up()
    job = workplace.run(workplace.submit_folder(scenes_folder))
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "model_unavailable"
    assert "needs a CUDA device" in str(job.error)


def test_a_job_is_not_failed_by_a_worker_that_cannot_load_what_others_can(
    workplace: Workplace, scenes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace.runtime.engines.warm_up()
    job = workplace.submit_folder(scenes_folder)
    planning_run.plan_job(workplace.runtime, job.id)

    def broken(model: str, **options: Any) -> Any:
        raise CheckpointError("the hub is away")

    with monkeypatch.context() as patch:
        patch.setattr(engines, "load_engine", broken)
        patch.setattr(workplace.runtime.engines, "_loaded", None)
        shard_run.run_shards(workplace.runtime)
    assert workplace.again(job).error is None
    workplace.execute("UPDATE shards SET available_at = now()")
    assert workplace.run(job).status is JobStatus.SUCCEEDED


def test_a_slow_shard_is_given_back_after_a_while_and_goes_on_with_the_next_message(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_folder(tmp_path / "scenes", 60)
    job = workplace.submit_folder(tmp_path / "scenes")
    planning_run.plan_job(workplace.runtime, job.id)
    monkeypatch.setattr(shard_run, "TASK_SECONDS", 0.2)
    messages = 0
    while True:
        with workplace.runtime.database.begin() as connection:
            if not shards.models_with_work(connection):
                break
        shard_run.run_shards(workplace.runtime)
        messages += 1
    finish_run.finish_job(workplace.runtime, job.id)
    assert messages > 1
    job = workplace.again(job)
    assert job.status is JobStatus.SUCCEEDED
    assert [row.image_index for row in workplace.images(job)] == list(range(60))
