"""200,000 images of no content through a whole stack whose worker is ended every 30 s, in turn by
SIGTERM and by SIGKILL. A process of its own; prints one line of JSON."""

import json
import os
import signal
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.processes import Watched, watched
from domain.result_manifest import ResultManifest
from maskmill.answers import Job
from maskmill.client import Client
from maskmill.embedded import EmbeddedStack, StackOptions
from storage.object_keys import results_root

IMAGES = 200_000
EVERY_SECONDS = 30.0
SETTLED_SECONDS = 75.0  # after which the time left is known
LEASE_SECONDS = 10.0
ENVIRONMENT = {
    "MASKMILL_MODELS": "null",
    "MASKMILL_ALLOWED_SOURCES": "null://",
    "MASKMILL_LEASE_SECONDS": str(LEASE_SECONDS),
    "MASKMILL_SWEEP_SECONDS": "2",
}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="maskmill-restarts-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may run as another user
        options = StackOptions(
            data=folder / "data", interactive=False, extra_environment=ENVIRONMENT
        )
        with EmbeddedStack(options) as stack, Client(stack.url, stack.api_key) as client:
            answer = labelled(stack, client)
    print(json.dumps(answer))  # noqa: T201


def labelled(stack: EmbeddedStack, client: Client) -> dict[str, object]:
    job = client.create_job(f"null://{IMAGES}", ["thing"])
    started, over, ends = time.monotonic(), threading.Event(), list[str]()
    restarting = threading.Thread(target=end_workers, args=(stack, over, ends))
    restarting.start()

    def seconds() -> float:
        return time.monotonic() - started

    try:
        with watched(stack.process_ids, measure=seconds) as seen:
            time.sleep(SETTLED_SECONDS)
            promised, promised_at = client.get_job(job.id).eta_seconds, seconds()
            job = client.wait(job.id, timeout_seconds=3600)
            job_seconds = seconds()
    finally:
        over.set()
        restarting.join()
    return {
        "counts": job.counts.model_dump(),
        "seconds": job_seconds,
        "ends": ends,
        "promised_seconds": promised,
        "left_seconds": job_seconds - promised_at,
        "orphans": orphans_left(stack, job),
        "peak_mib": peaks(seen, job_seconds),
    }


def end_workers(stack: EmbeddedStack, over: threading.Event, ends: list[str]) -> None:
    while not over.wait(EVERY_SECONDS):
        number = (signal.SIGTERM, signal.SIGKILL)[len(ends) % 2]
        with suppress(KeyError, ProcessLookupError):
            os.kill(stack.process_ids()["bulk"], number)
            ends.append(number.name)


def peaks(seen: Watched, seconds: float) -> dict[str, tuple[float, float]]:
    """Of each process that lives through it all, and of the workers: in the first and in the
    second half."""
    names = {name for _, sizes in seen.memory for name in sizes}
    half = seconds / 2
    return {
        name: (
            seen.peak_mib(name, until=half),
            max(sizes.get(name, 0.0) for at, sizes in seen.memory if at > half),
        )
        for name in sorted(names)
    }


def orphans_left(stack: EmbeddedStack, job: Job) -> list[str]:
    """Parts that no manifest names, once the sweeper has had its time."""
    store = Path(urlsplit(stack.environment["MASKMILL_OBJECT_STORE"]).path)
    root = store / results_root(job.id)
    (newest,) = sorted((root / "manifests").iterdir())[-1:]
    manifest = ResultManifest.model_validate_json(newest.read_bytes())
    named = {file.key for part in manifest.parts for file in (part.annotations, part.images)}
    deadline = time.monotonic() + 40 * LEASE_SECONDS
    while (left := {f"parts/{f.name}" for f in (root / "parts").iterdir()} - named) and (
        time.monotonic() < deadline
    ):
        time.sleep(1)
    return sorted(left)


if __name__ == "__main__":
    main()
