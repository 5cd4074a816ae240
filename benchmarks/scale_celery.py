"""The usual design beside ours: a Celery task for each image, results in a backend on the broker.

    python -m benchmarks.scale_celery [--images 20000]

A real worker on a real Valkey, with Celery's own defaults. A task does what our worker does for an
image of the model `null`: it makes up five masks, and returns them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from domain.prompts import ConceptPrompt
from maskmill.embedded.ports import free_port
from maskmill.embedded.supervisor import Supervisor
from maskmill.embedded.valkey import ValkeyServer
from workers.engine.image_task import ImageTask
from workers.null_engine import NullEngine

_URL = "SCALE_CELERY_URL"
app = Celery("scale", broker=os.environ.get(_URL), backend=os.environ.get(_URL))
_pipeline = NullEngine("null").pipeline(floor=0.1, max_pixels=10**9)


@app.task(name="label")
def label(name: str, text: str) -> dict[str, Any]:
    (outcome,) = _pipeline.run([ImageTask(bytes, (ConceptPrompt(text),), name=name)])
    document = asdict(outcome)
    for instance in document["instances"]:
        instance["mask"]["counts"] = instance["mask"]["counts"].decode()
    return document


def measured(images: int) -> dict[str, float]:
    """Images per second from the first message to the last result, and the broker's memory."""
    with tempfile.TemporaryDirectory() as folder, _valkey(Path(folder)) as url:
        app.conf.update(broker_url=url, result_backend=url)
        with redis.Redis.from_url(url) as broker, _worker(url, Path(folder, "worker.log")):
            label.delay("warm", "circle").get(timeout=120)
            empty = broker.info("memory")["used_memory"]
            started = time.perf_counter()
            for number in range(images):
                label.delay(f"{number:09d}.jpg", "red circle")
            enqueued = time.perf_counter() - started
            while broker.dbsize() < images or (found := _results(broker)) < images + 1:
                time.sleep(0.2)
            seconds = time.perf_counter() - started
            memory = broker.info("memory")
    return {
        "images": images,
        "images_per_second": round(images / seconds, 1),
        "enqueue_seconds": round(enqueued, 1),
        "results": found - 1,
        "broker_peak_mib": round((memory["used_memory_peak"] - empty) / 2**20, 1),
        "broker_end_mib": round((memory["used_memory"] - empty) / 2**20, 1),
        "broker_bytes_per_image": round((memory["used_memory"] - empty) / images),
    }


def _results(broker: "redis.Redis[bytes]") -> int:
    return sum(1 for _ in broker.scan_iter(match="celery-task-meta-*", count=10_000))


@contextmanager
def _valkey(folder: Path) -> Iterator[str]:
    server = ValkeyServer(folder, uuid.uuid4().hex, free_port(), folder / "valkey.log")
    server.prepare()
    supervisor = Supervisor(print)
    supervisor.start(server.spec())
    while not server.is_ready():
        supervisor.require_all_alive()
        time.sleep(0.05)
    try:
        yield server.url
    finally:
        supervisor.stop(["valkey"], seconds=10, hurry=threading.Event())


@contextmanager
def _worker(url: str, log: Path) -> Iterator[None]:
    command = ("celery", "-A", "benchmarks.scale_celery", "worker", "-c", "1", "-n", "one@%h")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, _URL: url},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    for name, value in measured(parser.parse_args().images).items():
        print(f"  {name:<24} {value:>12,}")


if __name__ == "__main__":
    main()
