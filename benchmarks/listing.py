"""How long a job takes to plan when its source is an S3 prefix, beside the listing alone.

    python -m benchmarks.listing [--keys 1e4,1e5] [--output FILE]

The S3 server is moto's in a process of its own; it lists slowly and more slowly the more keys it
has. The plain way is boto3's paginator read to its end. The bulk worker is stopped meanwhile, or
the same server would have to give out the images too.
"""

import argparse
import json
import logging
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.processes import watched
from maskmill.client import Client
from maskmill.embedded import EmbeddedStack, StackOptions
from storage.s3_store import s3_client

RESULTS = Path(__file__).parent / "results"
BUCKET = "photos"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "MASKMILL_MODELS": "null",
    "MASKMILL_ALLOWED_SOURCES": f"s3://{BUCKET}",
}
MOTO_ACCOUNT = "123456789012"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", default="1e4,1e5")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    table = Table("keys", "listing alone, s", "planned, s", "planner's CPU, s", "its peak, MiB")
    found = []
    for keys in (int(float(part)) for part in options.keys.split(",")):
        with _s3(keys) as endpoint:
            found.append(
                {"keys": keys, "listing_seconds": _listed(endpoint, keys)}
                | _planned(endpoint, keys)
            )
        table.add_row(*(f"{value:,.1f}" for value in found[-1].values()))
    Console().print(table)
    output = options.output or RESULTS / machine.folder_name(torch.device("cpu")) / "listing.json"
    output.write_text(
        json.dumps({"runs": found, "machine": machine.description()}, indent=2) + "\n"
    )


@contextmanager
def _s3(keys: int) -> Iterator[str]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, keys))
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def _serve(pipe: Connection, keys: int) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3_client(f"http://{host}:{port}").create_bucket(Bucket=BUCKET)
    store = s3_backends[MOTO_ACCOUNT]["aws"]  # past HTTP: a request a key would take minutes
    for number in range(keys):
        store.put_object(BUCKET, f"{number % 100:02d}/{number:09d}.jpg", b"")
    pipe.send(f"http://{host}:{port}")
    time.sleep(10**6)


def _listed(endpoint: str, keys: int) -> float:
    started = time.perf_counter()
    pages = s3_client(endpoint).get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    assert sum(page["KeyCount"] for page in pages) == keys
    return round(time.perf_counter() - started, 1)


def _planned(endpoint: str, keys: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may run as another user
        options = StackOptions(
            data=folder / "data",
            announce=lambda _line: None,
            interactive=False,
            extra_environment={**ENVIRONMENT, "MASKMILL_S3_ENDPOINT_URL": endpoint},
        )
        with EmbeddedStack(options) as stack, Client(stack.url, stack.api_key) as client:
            os.kill(stack.process_ids()["bulk"], signal.SIGSTOP)
            try:
                return _plan(stack, client, keys)
            finally:
                os.kill(stack.process_ids()["bulk"], signal.SIGCONT)


def _plan(stack: EmbeddedStack, client: Client, keys: int) -> dict[str, float]:
    with watched(stack.process_ids) as taken:
        job = client.create_job(f"s3://{BUCKET}/", ["thing"])
        while (job := client.get_job(job.id)).running_at is None:
            time.sleep(0.2)
    if job.counts.total != keys or job.planning_at is None:
        raise SystemExit(f"not planned as it should be: {job}")
    client.cancel(job.id)
    return {
        "planned_seconds": round((job.running_at - job.planning_at).total_seconds(), 1),
        "planner_cpu_seconds": round(taken.cpu_seconds["planner"], 1),
        "planner_peak_mib": round(taken.peak_mib("planner"), 1),
    }


if __name__ == "__main__":
    main()
