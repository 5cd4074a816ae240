import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domain.documents import NewItem
from domain.lifecycle import JobStatus
from storage.jobs import Job
from storage.outlook import outlook_of
from tests.integration.workers.conftest import Workplace
from workers import expiring_links, planning_run
from workers.expiring_links import ASSUMED_IMAGES_PER_SECOND, earliest_end

HOUR = timedelta(hours=1)


def link(number: int, expires_in: timedelta) -> str:
    end = int((datetime.now(UTC) + expires_in).timestamp())
    return f"https://images.example.com/{number}.jpg?Signature=0&Expires={end}"


@pytest.fixture
def submit(null_workplace: Workplace, tmp_path: Path) -> Callable[..., Job]:
    def make(links: list[str], *, accepted: bool = False) -> Job:
        folder = tmp_path / f"links-{time.monotonic_ns()}"
        folder.mkdir()
        (folder / "list.txt").write_text("\n".join(links))
        job = null_workplace.submit_folder(folder, manifest="list.txt")
        if accepted:
            null_workplace.execute("UPDATE jobs SET accept_expiring_links = true")
        return job

    return make


def planned(workplace: Workplace, job: Job) -> Job:
    planning_run.plan_job(workplace.runtime, job.id)
    return workplace.again(job)


def message(job: Job) -> str:
    assert job.error is not None
    assert job.error["code"] == "links_expire"
    return str(job.error["message"])


def test_links_that_last_long_enough_are_planned(
    null_workplace: Workplace, submit: Callable[..., Job]
) -> None:
    job = planned(null_workplace, submit([link(n, HOUR) for n in range(300)]))
    assert job.error is None
    assert job.status is JobStatus.RUNNING


def test_one_link_that_ends_before_the_job_does_fails_it_with_the_estimate(
    null_workplace: Workplace, submit: Callable[..., Job]
) -> None:
    seconds = 300 / ASSUMED_IMAGES_PER_SECOND
    links = [link(n, HOUR) for n in range(299)]
    ended = planned(null_workplace, submit([*links, link(299, timedelta(seconds=seconds - 20))]))
    assert "300 images and what goes before them, at 5 images/s (assumed" in message(ended)
    later = planned(null_workplace, submit([*links, link(299, timedelta(seconds=seconds + 60))]))
    assert later.error is None


def test_links_that_have_expired_fail_the_job_before_the_rest_is_read(
    null_workplace: Workplace, submit: Callable[..., Job]
) -> None:
    links = [link(n, -HOUR if n == 0 else HOUR) for n in range(3000)]
    job = planned(null_workplace, submit(links))
    assert re.search("have expired, the first at .* UTC; sign them for longer", message(job))
    assert job.plan_cursor is not None
    assert job.plan_cursor["images"] < 3000


def test_whoever_accepts_links_that_expire_gets_them_run(
    null_workplace: Workplace, submit: Callable[..., Job]
) -> None:
    job = planned(null_workplace, submit([link(0, -HOUR)], accepted=True))
    assert job.error is None
    assert job.status is JobStatus.RUNNING


def test_images_ahead_and_the_pace_of_the_last_day_count(
    null_workplace: Workplace, submit: Callable[..., Job]
) -> None:
    done = null_workplace.run(null_workplace.submit({"type": "prefix", "uri": "null://200"}))
    waiting = null_workplace.submit({"type": "prefix", "uri": "null://700"})
    planning_run.plan_job(null_workplace.runtime, waiting.id)
    null_workplace.execute(
        f"UPDATE slices SET created_at = committed_at - interval '100 seconds'"
        f" WHERE job_id = '{done.id}'"
    )
    job = submit([link(n, timedelta(seconds=300)) for n in range(50)])
    with null_workplace.runtime.database.begin() as connection:
        outlook = outlook_of(connection, job.id, model="null")
        nobody = outlook_of(connection, job.id, model="another")
    assert (outlook.ahead, outlook.done, outlook.keys) == (700, 0, 1)
    assert outlook.per_second == pytest.approx(2.0, rel=0.05)
    assert nobody.per_second is None
    refused = message(planned(null_workplace, job))
    assert "50 images and what goes before them, at " in refused
    assert "(measured over the last day)" in refused
    null_workplace.execute(f"UPDATE jobs SET paused_at = now() WHERE id = '{waiting.id}'")
    alone = planned(null_workplace, submit([link(n, timedelta(seconds=300)) for n in range(50)]))
    assert alone.error is None


def test_the_earliest_end_goes_with_the_cursor_of_a_planner_that_dies(
    null_workplace: Workplace, submit: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    links = [link(0, timedelta(seconds=400)), *(link(n, 9 * HOUR) for n in range(1, 5000))]
    job = submit(links)
    with monkeypatch.context() as patch:
        calls = iter(range(3))

        def die(self: expiring_links.LinkCheck, cursor: object) -> None:
            if next(calls, None) is None:
                raise ConnectionError

        patch.setattr(expiring_links.LinkCheck, "look", die)
        half = planned(null_workplace, job)
    assert half.error is None
    assert half.plan_cursor is not None
    assert half.plan_cursor["links_end"] is not None
    null_workplace.expire_leases()
    assert "5,000 images" in message(planned(null_workplace, job))


def test_addresses_without_an_end_have_none() -> None:
    items = [NewItem(0, "a.jpg", "s3://b/a.jpg"), NewItem(1, "b.jpg", "https://h/b.jpg")]
    assert earliest_end(None, items) is None
    assert earliest_end(7.0, items) == 7.0
