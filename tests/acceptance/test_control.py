"""A job's owner has it wait, go on, and mend what failed."""

import shutil
from pathlib import Path

from maskmill.answers import Job
from maskmill.client import dataset_source
from tests.acceptance.conftest import SCENES, Service, exactly_once


def test_a_job_is_paused_resumed_and_its_failed_images_are_tried_again(
    service: Service, scenes: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "scenes"
    shutil.copytree(scenes, folder)
    names = sorted(path.name for path in folder.iterdir())
    (folder / "list.txt").write_text("\n".join(names))
    late = [names[3], names[-1]]
    for name in late:
        (folder / name).unlink()
    source = dataset_source(service.link(folder), manifest="list.txt")
    job = service.client.create_job(source, ["red circle", "square"])
    service.wait_for(job, lambda j: 8 <= j.counts.succeeded < j.counts.total)
    assert service.client.pause(job.id).paused_at is not None
    service.wait_for(job, is_at_rest)
    paused = service.client.get_job(job.id)
    assert 0 < paused.counts.done < SCENES
    service.client.resume(job.id)
    done = service.finish(job)
    assert (done.counts.succeeded, done.counts.failed) == (SCENES - 2, 2)
    for name in late:
        shutil.copy(scenes / name, folder / name)
    assert not service.client.retry(job.id, codes=["not_found"]).ended
    mended = service.finish(job)
    assert (mended.status, mended.counts.succeeded, mended.counts.failed) == (
        "succeeded",
        SCENES,
        0,
    )
    exactly_once(service.images(job), SCENES)
    assert service.client.manifest(job.id).number == 2


def is_at_rest(job: Job) -> bool:
    return job.paused_at is not None and job.counts.processing == 0
