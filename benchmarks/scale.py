"""What a million images cost beside the network, and whether anything grows with their number.

    python -m benchmarks.scale [--images 1e4,1e5,1e6] [--without-celery] [--output FOLDER]

Each size gets an embedded stack of its own whose model is `null` (workers.null_engine): all is
done but decoding and labelling. A manifest of so many lines is uploaded and labelled by the
worker, while 50 requests a second ask for the job's status. The usual design runs beside it
(benchmarks.scale_celery). Needs Linux.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import machine, scale_celery
from benchmarks.processes import watched
from maskmill.client import Client, dataset_source
from maskmill.embedded import EmbeddedStack, StackOptions

STATUS_PER_SECOND = 50
CELERY_IMAGES = 20_000
RESULTS = Path(__file__).parent / "results"
TABLES = ("shards", "slices", "events", "outbox", "deliveries")
EARLY_IMAGES = 100_000  # until where memory may have grown; it must not grow on
ENVIRONMENT = {
    "MASKMILL_MODELS": "null",
    "MASKMILL_ALLOWED_SOURCES": "null://",
    "MASKMILL_REQUESTS_PER_MINUTE": "1000000",
}


@dataclass(frozen=True)
class Measured:
    """`early_mib` is each process's peak up to the first 100,000 images, `peak_mib` of all."""

    images: int
    planning_seconds: float
    first_result_seconds: float
    total_seconds: float
    images_per_second: float
    results_before_planning_ended: bool
    cpu_milliseconds_per_image: dict[str, float]
    early_mib: dict[str, float]
    peak_mib: dict[str, float]
    database_mib: float
    table_mib: dict[str, float]
    status_milliseconds: dict[str, float]


@dataclass
class Poller:
    """Asks for a job's status at a steady pace, from several threads, whatever the answers take."""

    url: str
    headers: dict[str, str]
    seconds: list[float] = field(default_factory=list)
    done_images: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self, *, threads: int = 8) -> Iterator[None]:
        with ThreadPoolExecutor(threads) as pool:
            runs = [pool.submit(self._ask, number, threads) for number in range(threads)]
            try:
                yield
            finally:
                self._over.set()
        for run in runs:
            run.result()

    def _ask(self, number: int, threads: int) -> None:
        period = threads / STATUS_PER_SECOND
        due = time.monotonic() + number / STATUS_PER_SECOND
        with httpx.Client(headers=self.headers, timeout=60, trust_env=False) as client:
            while not self._over.wait(max(0.0, due - time.monotonic())):
                due += period
                started = time.perf_counter()
                answer = client.get(self.url).raise_for_status().json()
                self.seconds.append(time.perf_counter() - started)
                counts = answer["counts"]
                self.done_images = counts["succeeded"] + counts["failed"]


def main() -> None:
    options = _options()
    found = []
    for images in options.images:
        found.append(_measure(images))
        _show(found)
    celery = None if options.without_celery else scale_celery.measured(CELERY_IMAGES)
    if celery:
        Console().print("A task for each image:", celery)
    _save(options.output, found, celery)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=_counts, default=[10_000, 100_000], help="1e4,1e5")
    parser.add_argument("--without-celery", action="store_true")
    parser.add_argument("--output", type=Path, help=f"a folder; {RESULTS}/<hardware> by default")
    return parser.parse_args()


def _counts(text: str) -> list[int]:
    return [int(float(part)) for part in text.split(",")]


def _measure(images: int) -> Measured:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        options = StackOptions(
            data=folder / "data",
            announce=lambda _line: None,
            interactive=False,
            extra_environment=ENVIRONMENT,
        )
        with EmbeddedStack(options) as stack, Client(stack.url, stack.api_key) as client:
            return _label(stack, client, folder / "manifest", images=images)


def _label(stack: EmbeddedStack, client: Client, folder: Path, *, images: int) -> Measured:
    folder.mkdir()
    _write_manifest(folder / "images.jsonl", images)
    dataset = client.create_dataset("scale")
    client.upload_files(dataset.id, folder, ["images.jsonl"])
    with _database(stack) as connection:
        before = _sizes(connection)
        source = dataset_source(dataset.id, manifest="images.jsonl")
        job = client.create_job(source, ["circle", "star"])
        poller = Poller(
            f"{stack.url}/v1/jobs/{job.id}", {"Authorization": f"Bearer {stack.api_key}"}
        )
        with (
            watched(stack.process_ids, measure=lambda: poller.done_images) as taken,
            poller.running(),
        ):
            job = client.wait(job.id, poll_seconds=1.0)
        if job.counts.succeeded != images:
            raise SystemExit(f"the job did not succeed: {job}")
        after, times = _sizes(connection), _times(connection, job.id)
    names = sorted(taken.cpu_seconds)
    return Measured(
        images=images,
        **times,
        images_per_second=round(images / times["total_seconds"], 1),
        cpu_milliseconds_per_image={
            name: round(1000 * taken.cpu_seconds[name] / images, 4) for name in names
        },
        early_mib={n: round(taken.peak_mib(n, until=EARLY_IMAGES), 1) for n in names},
        peak_mib={n: round(taken.peak_mib(n), 1) for n in names},
        database_mib=round(after["database"] - before["database"], 1),
        table_mib={name: round(after[name] - before[name], 1) for name in TABLES},
        status_milliseconds=_quantiles(poller.seconds),
    )


def _write_manifest(path: Path, images: int) -> None:
    with path.open("w") as file:
        for number in range(images):
            file.write(f'{{"image": "null:photos/{number:09d}.jpg", "custom_id": "{number}"}}\n')


@contextmanager
def _database(stack: EmbeddedStack) -> Iterator["psycopg.Connection[Any]"]:
    url = stack.environment["MASKMILL_DATABASE_URL"].replace("+psycopg", "", 1)
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def _sizes(connection: "psycopg.Connection[Any]") -> dict[str, float]:
    """MiB of the database, and of tables with their indexes."""
    query = "SELECT pg_database_size(current_database())"
    sizes = {"database": _number(connection, query)}
    for name in TABLES:
        sizes[name] = _number(connection, f"SELECT pg_total_relation_size('{name}')")
    return {name: size / 2**20 for name, size in sizes.items()}


def _times(connection: "psycopg.Connection[Any]", job_id: str) -> dict[str, Any]:
    row = connection.execute(
        """
        SELECT extract(epoch FROM running_at - planning_at)::float8,
               extract(epoch FROM finished_at - created_at)::float8,
               extract(epoch FROM first_commit - created_at)::float8,
               first_commit < running_at
          FROM jobs, (SELECT min(committed_at) AS first_commit FROM slices) AS found
         WHERE id = %s
        """,
        [job_id],
    ).fetchone()
    assert row
    return {
        "planning_seconds": round(row[0], 2),
        "total_seconds": round(row[1], 2),
        "first_result_seconds": round(row[2], 2),
        "results_before_planning_ended": row[3],
    }


def _number(connection: "psycopg.Connection[Any]", query: str) -> float:
    row = connection.execute(query.encode()).fetchone()
    assert row
    return float(row[0])


def _quantiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    p = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}
    return {"requests": len(seconds), **{n: round(1000 * value, 1) for n, value in p.items()}}


def _show(found: list[Measured]) -> None:
    table = Table("", *(f"{one.images:,} images" for one in found))
    names = sorted(found[-1].peak_mib)
    for title, value in _rows(names):
        table.add_row(title, *(value(one) for one in found))
    Console().print(table)


def _rows(names: list[str]) -> Iterator[tuple[str, Any]]:
    yield "planning, s", lambda one: f"{one.planning_seconds:.1f}"
    yield "first result, s", lambda one: f"{one.first_result_seconds:.1f}"
    yield "before planning ended", lambda one: str(one.results_before_planning_ended)
    yield "whole job, s", lambda one: f"{one.total_seconds:.1f}"
    yield "images/s", lambda one: f"{one.images_per_second:,.0f}"
    for name in names:
        yield (
            f"CPU ms/image, {name}",
            lambda one, name=name: f"{one.cpu_milliseconds_per_image.get(name, 0):.3f}",
        )
    for name in names:
        yield (
            f"peak MiB (first 1e5), {name}",
            lambda one, name=name: (
                f"{one.peak_mib.get(name, 0):.0f} ({one.early_mib.get(name, 0):.0f})"
            ),
        )
    yield "database MiB", lambda one: f"{one.database_mib:.0f}"
    for name in TABLES:
        yield f"  {name}, MiB", lambda one, name=name: f"{one.table_mib[name]:.1f}"
    yield (
        "status p50 / p95, ms",
        lambda one: " / ".join(f"{one.status_milliseconds[name]:.1f}" for name in ("p50", "p95")),
    )


def _save(folder: Path | None, found: list[Measured], celery: dict[str, float] | None) -> None:
    folder = folder or RESULTS / machine.folder_name(torch.device("cpu"))
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "runs": [asdict(one) for one in found],
        "a_task_for_each_image": celery,
        "machine": machine.description(),
    }
    (folder / "scale.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
