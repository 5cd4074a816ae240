"""One run: jobs one after the other while the schedule lasts, then a look at what is left."""

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskmill.answers import Job
from maskmill.connection import MaskmillError
from tests.chaos.outcome import Outcome, orphans, outcome_of
from tests.chaos.schedule import Strike, strikes
from tests.chaos.stack import IMAGES, LEASE_SECONDS, ChaosStack, chaos_stack
from tests.services import wait_until

DIFFERENT_IMAGES = 200
WAIT_SECONDS = 900.0
PROMPTS = ("thing", "other thing")


@dataclass
class Report:
    seed: int
    seconds: float
    strikes: Sequence[Strike]
    outcomes: list[Outcome] = field(default_factory=list)
    orphans: int = 0
    after_retry: list[Outcome] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        found = [fault for one in (*self.outcomes, *self.after_retry) for fault in one.faults]
        found += [
            f"still failed after a retry: {dict(o.failed)}" for o in self.after_retry if o.failed
        ]
        return found + ([f"{self.orphans} orphan objects"] if self.orphans else [])

    def lines(self) -> list[str]:
        done = [
            f"job {number}: {one.images} images in {one.parts} parts, {one.instances} instances,"
            f" {one.failed.total()} failed {dict(one.failed) or ''}".rstrip()
            for number, one in enumerate(self.outcomes, start=1)
        ]
        retried = sum(one.failed.total() for one in self.outcomes)
        left = sum(one.failed.total() for one in self.after_retry)
        return [
            f"seed {self.seed}: {len(self.strikes)} strikes in {self.seconds:.0f} s",
            *done,
            f"retried {retried} failed images, {left} failed again",
            f"{self.orphans} orphan objects",
            *(f"WRONG: {fault}" for fault in self.faults),
            "everything is as it should be" if not self.faults else "NOT as it should be",
        ]


def run(folder: Path, *, seed: int, seconds: float, images: int) -> Report:
    report = Report(seed, seconds, strikes(seed, seconds=seconds))
    with chaos_stack(folder, seed=seed) as chaos:
        put_images(chaos, images)
        jobs = _strike_while_jobs_run(chaos, report, images=images)
        ended = [_ended(chaos, job) for job in jobs]  # all of them: then no lease may be left
        report.outcomes += [outcome_of(chaos, job, images=images) for job in ended]
        for job in jobs:
            report.after_retry += _retried(chaos, job, images=images)
        # Parts of runners that came back stale are removed some leases after the end.
        _until(lambda: not any(orphans(chaos, job) for job in jobs), seconds=40 * LEASE_SECONDS)
        report.orphans = sum(len(orphans(chaos, job)) for job in jobs)
    return report


def put_images(chaos: ChaosStack, images: int) -> None:
    for number in range(DIFFERENT_IMAGES):
        body = b"image %d" % number
        chaos.objects.put_object(Bucket=IMAGES, Key=f"{number:04d}.jpg", Body=body)
    lines = (json.dumps({"image": f"{n % DIFFERENT_IMAGES:04d}.jpg"}) for n in range(images))
    chaos.objects.put_object(Bucket=IMAGES, Key="list.jsonl", Body="\n".join(lines).encode())


def _strike_while_jobs_run(chaos: ChaosStack, report: Report, *, images: int) -> list[Job]:
    jobs = [_submit(chaos)]
    wait_until(lambda: _done(chaos, jobs[0]) > 0, seconds=WAIT_SECONDS)
    started = time.monotonic()
    for strike in report.strikes:
        while (left := started + strike.at_seconds - time.monotonic()) > 0:
            time.sleep(min(left, 1))
            if left > 2 and _has_ended(chaos, jobs[-1]):
                jobs.append(_submit(chaos))
        print(f"{strike}   [{_done(chaos, jobs[-1])} of {images}, job {len(jobs)}]", flush=True)
        chaos.strike(strike)
    return jobs


def _submit(chaos: ChaosStack) -> Job:
    """Until it is heard, and once: with an idempotency key."""
    key = uuid.uuid4().hex
    found: list[Job] = []

    def submitted() -> bool:
        try:
            found.append(
                chaos.client.create_job(f"s3://{IMAGES}/list.jsonl", PROMPTS, idempotency_key=key)
            )
        except MaskmillError:
            return False
        return True

    wait_until(submitted, seconds=WAIT_SECONDS)
    return found[0]


def _has_ended(chaos: ChaosStack, job: Job) -> bool:
    try:
        return chaos.client.get_job(job.id).finished_at is not None
    except MaskmillError:
        return False


def _done(chaos: ChaosStack, job: Job) -> int:
    try:
        counts = chaos.client.get_job(job.id).counts
    except MaskmillError:
        return 0
    return counts.succeeded + counts.failed


def _ended(chaos: ChaosStack, job: Job) -> Job:
    done = chaos.client.wait(job.id, timeout_seconds=WAIT_SECONDS)
    assert done.status == "succeeded", done
    return done


def _retried(chaos: ChaosStack, job: Job, *, images: int) -> list[Outcome]:
    """With a store that is well again."""
    if chaos.client.get_job(job.id).counts.failed == 0:
        return []
    chaos.client.retry(job.id)
    return [outcome_of(chaos, _ended(chaos, job), images=images)]


def _until(check: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(1)
