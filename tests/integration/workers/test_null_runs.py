import os
import subprocess
import sys
from pathlib import Path

import pytest
from pycocotools import mask as coco_mask
from sqlalchemy import text

from domain.errors import ImageErrorCode, InvalidRequest
from domain.lifecycle import JobStatus
from tests.integration.workers.conftest import Workplace
from tests.services import REPOSITORY
from workers.runtime import Runtime


def null_source(count: int) -> dict[str, str]:
    return {"type": "prefix", "uri": f"null://{count}"}


def test_a_null_job_leaves_real_rows_for_every_image(null_workplace: Workplace) -> None:
    prompts = [{"text": "circle"}, {"text": "star"}]
    job = null_workplace.run(null_workplace.submit(null_source(600), prompts=prompts))
    assert job.status is JobStatus.SUCCEEDED
    rows = null_workplace.images(job)
    assert [(row.image_index, row.image) for row in rows] == [
        (index, f"{index:09d}.jpg") for index in range(600)
    ]
    counts = {"total": 600, "succeeded": 600, "failed": 0, "canceled": 0, "processing": 0}
    assert job.totals == {**counts, "instances": 3000}
    found = null_workplace.instances(job)
    assert [one.image_index for one in found] == [index for index in range(600) for _ in range(5)]
    for one in found[:50]:
        mask = {"size": list(one.mask.size), "counts": one.mask.counts}
        assert coco_mask.area(mask) == one.area
        assert tuple(coco_mask.toBbox(mask)) == one.box
        assert one.category == prompts[one.prompt_index]["text"]
        assert 0.5 <= one.score < 1


def test_images_that_are_not_there_fail_in_a_null_job_too(
    null_workplace: Workplace, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "there.jpg").write_bytes(b"nobody looks")
    (tmp_path / "images" / "items.txt").write_text("there.jpg\ngone.jpg\nfile:5\n")
    job = null_workplace.run(
        null_workplace.submit_folder(tmp_path / "images", manifest="items.txt")
    )
    codes = [row.error_code for row in null_workplace.images(job)]
    assert codes == [None, ImageErrorCode.NOT_FOUND, ImageErrorCode.FORBIDDEN]


def test_a_null_source_is_refused_where_the_operator_has_not_listed_it(
    workplace: Workplace,
) -> None:
    job = workplace.run(workplace.submit(null_source(10)))
    assert job.status is JobStatus.FAILED
    assert job.error
    assert job.error["code"] == "source_not_allowed"


@pytest.mark.parametrize("count", ["0", "-1", "1000000001", "ten", "١", ""])
def test_a_null_source_has_a_count_up_to_a_thousand_million(
    null_workplace: Workplace, count: str
) -> None:
    with pytest.raises(InvalidRequest):
        null_workplace.runtime.sources.check_source(f"null://{count}")


def test_a_worker_of_null_never_imports_torch(null_workplace: Workplace) -> None:
    null_workplace.submit(null_source(300))
    code = (
        "import sys; from workers import tasks; from workers.runtime import runtime\n"
        "runtime().engines.warm_up()\n"
        "from storage.jobs import jobs_to_plan\n"
        "with runtime().database.begin() as c: ids = jobs_to_plan(c)\n"
        "[tasks.plan_job(one) for one in ids]; tasks.run_shards('null')\n"
        "print('torch' in sys.modules)"
    )
    assert _in_worker(null_workplace.runtime, code) == "False"
    (counts,) = _shards(null_workplace)
    assert counts == (300, 300)


def _shards(workplace: Workplace) -> list[tuple[int, int]]:
    with workplace.runtime.database.begin() as connection:
        rows = connection.execute(text("SELECT sum(image_count), sum(succeeded) FROM shards"))
        return [(row[0], row[1]) for row in rows]


def _in_worker(runtime: Runtime, code: str) -> str:
    settings = runtime.settings
    environment = {
        **os.environ,
        "MASKMILL_DATABASE_URL": settings.database_url.get_secret_value(),
        "MASKMILL_BROKER_URL": settings.broker_url.get_secret_value(),
        "MASKMILL_OBJECT_STORE": settings.object_store,
        "MASKMILL_SIGNING_SECRET": "secret",
        "MASKMILL_MODELS": "null",
        "MASKMILL_ALLOWED_SOURCES": "null://",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]
