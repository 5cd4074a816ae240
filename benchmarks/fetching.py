"""Images per second from slow stores: four fetches at a time, the plain way, and adaptively.

    python -m benchmarks.fetching [--images 400] [--output FILE]

Real servers on loopback, in a process of their own: S3's GetObject by boto3, and HTTP by the
guarded fetcher, each answer held back by the latency of a network; beside them a local folder. The
engine is simulated: it takes a fixed time an image and finds nothing, so that only fetching
differs. The plain way is a pool of four threads that fetch and decode. Each adaptive run begins
with a window of four and has to grow; both ways run in turns, and the medians are compared. The
last row is a server that answers 503 SlowDown above a number of requests at a time: how many
requests it refused, and whether every image came.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine
from domain.fetching import Fetch
from domain.prompts import ConceptPrompt, ModelLimits
from maskmill.sample_scenes import draw_scene
from storage.guarded_fetch import GuardedFetcher
from storage.local_store import LocalStore
from storage.sources import Sources
from workers.engine.decoding import decode
from workers.engine.engine import Embedding, Found, ImageInput
from workers.engine.fetch_window import FetchWindow, current_fetch
from workers.engine.image_task import ImageTask
from workers.engine.pipeline import Pipeline

PLAIN_THREADS = 4
ROUNDS = 3
BATCH = 8
SECONDS_AN_IMAGE = 0.004  # of the simulated network: a large GPU's, with few prompts
MOST_AT_ONCE = 24  # of the server that protests
MAX_PIXELS = 10**7
PROMPTS = (ConceptPrompt("star"),)
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
Read = Callable[[Fetch], bytes]


class SimulatedEngine:
    name = "simulated"
    device = torch.device("cpu")
    weights_sha256 = details = tokenizer_json = ""
    notice = squash_jpegs = None
    limits = ModelLimits(text_tokens=32, queries=200, image_size=1008)
    images_per_batch = BATCH
    steps = 0

    def squash(self, pixels: np.ndarray) -> Tensor:  # noqa: ARG002
        return torch.zeros(1)

    def embed(self, squashed: Sequence[Tensor]) -> list[Embedding]:
        raise NotImplementedError

    def segment(self, images: Sequence[ImageInput]) -> list[list[Found]]:
        time.sleep(SECONDS_AN_IMAGE * len(images))
        return [[] for _ in images]

    def use_threads(self, count: int | None) -> None:
        pass


class SlowServer(ThreadingHTTPServer):
    """Answers everything with one image, late; `/refused` with how often it refused to."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, image: bytes, *, latency_seconds: float, most: int) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.image = image
        self.latency_seconds = latency_seconds
        self.most = most
        self.lock = threading.Lock()
        self.now = self.refused = 0


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: SlowServer

    def do_GET(self) -> None:
        server = self.server
        if self.path == "/refused":
            self._answer(200, str(server.refused).encode())
            return
        with server.lock:
            is_refused = server.now >= server.most
            server.refused += is_refused
            server.now += not is_refused
        if is_refused:
            self._answer(503, SLOW_DOWN)
            return
        time.sleep(server.latency_seconds)
        with server.lock:
            server.now -= 1
        self._answer(200, server.image)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def main() -> None:
    options = _options()
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    image = draw_scene(0, size=256).encoded("JPEG")
    rows = list(_rows(image, options.images))
    title = f"{options.images} images of {len(image):,} bytes; images/s, medians of {ROUNDS} runs"
    _print(title, rows)
    if options.output:
        result = {"scenario": title, "rows": rows, "machine": machine.description()}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--output", type=Path, help="also write the result here, as JSON")
    return parser.parse_args()


def _rows(image: bytes, count: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.jpg").write_bytes(image)
        with _sources() as sources:
            yield _row("local folder", _reader(sources, "local:a.jpg", Path(folder)), count)
    for kind in ("http", "s3"):
        for latency_seconds in (0.05, 0.2):
            with _reading(kind, image, latency_seconds=latency_seconds) as (read, _):
                yield _row(f"{kind}, {latency_seconds * 1000:.0f} ms", read, count)
    with _reading("s3", image, latency_seconds=0.05, most=MOST_AT_ONCE) as (read, refused):
        name = f"s3, 50 ms, SlowDown above {MOST_AT_ONCE} at a time"
        row = _row(name, read, count, ways=("adaptive",))
        yield {**row, "refused": refused(), "requests": ROUNDS * count + refused()}


def _row(
    name: str, read: Read, count: int, *, ways: Sequence[str] = ("plain", "adaptive")
) -> dict[str, Any]:
    run = {"plain": _plain, "adaptive": _adaptive}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    limits = []
    for _ in range(ROUNDS):
        for way in ways:
            window = FetchWindow()
            started = time.perf_counter()
            run[way](read, count, window)
            rates[way].append(count / (time.perf_counter() - started))
        limits.append(window.limit)
    medians = {way: round(statistics.median(values), 1) for way, values in rates.items()}
    return {"store": name, **medians, "window": statistics.median(limits)}


def _plain(read: Read, count: int, window: FetchWindow) -> None:  # noqa: ARG001
    """Four threads fetch and decode, a few batches ahead of the network."""
    engine = SimulatedEngine()

    def load(_: int) -> ImageInput:
        data = read(current_fetch())
        pixels = decode(data, max_pixels=MAX_PIXELS).pixels
        return ImageInput(engine.squash(pixels), 256, 256, PROMPTS, 0.1)

    with ThreadPoolExecutor(PLAIN_THREADS) as pool:
        loaded = pool.map(load, range(count))
        while batch := list(islice(loaded, BATCH)):
            engine.segment(batch)


def _adaptive(read: Read, count: int, window: FetchWindow) -> None:
    pipeline = Pipeline(SimulatedEngine(), floor=0.1, max_pixels=MAX_PIXELS, window=window)
    task = ImageTask(lambda: read(current_fetch()), PROMPTS)
    outcomes = list(pipeline.run([task] * count))
    failed = [outcome.error_message for outcome in outcomes if not outcome.succeeded]
    if failed:
        raise SystemExit(f"{len(failed)} of {count} images did not come: {failed[0]}")


@contextmanager
def _sources(host: str = "localhost") -> Iterator[Sources]:
    sources = Sources(
        allowed_sources=["s3://images"],
        allowed_outputs=[],
        fetcher=GuardedFetcher([host]),
        max_image_bytes=10**8,
        s3_endpoint_url=f"http://{host}",
    )
    yield sources
    sources.close()


def _reader(sources: Sources, uri: str, root: Path | None = None) -> Read:
    own = LocalStore(Path(tempfile.gettempdir()))
    return lambda fetch: sources.read_image(uri, own=own, local_root=root, fetch=fetch)


@contextmanager
def _reading(
    kind: str, image: bytes, *, latency_seconds: float, most: int = 10**6
) -> Iterator[tuple[Read, Callable[[], int]]]:
    with _serving(image, latency_seconds=latency_seconds, most=most) as host, _sources(host) as s:
        uri = "s3://images/a.jpg" if kind == "s3" else f"http://{host}/a.jpg"
        s.store_for("s3://images/a.jpg")  # its clients take half a second to make
        yield _reader(s, uri), partial(_refused, host)


def _refused(host: str) -> int:
    with urlopen(f"http://{host}/refused") as answer:
        return int(answer.read())


@contextmanager
def _serving(image: bytes, **options: Any) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, image, options), daemon=True)
    process.start()
    yield f"127.0.0.1:{ours.recv()}"
    process.terminate()
    process.join()


def _serve(parent: Connection, image: bytes, options: dict[str, Any]) -> None:
    server = SlowServer(image, **options)
    parent.send(server.server_port)
    server.serve_forever()


def _print(title: str, rows: Sequence[dict[str, Any]]) -> None:
    print(title)
    print(f"  {'':<38} {'plain':>8} {'adaptive':>9} {'ratio':>6} {'window':>7}")
    for row in rows:
        plain = row.get("plain")
        ratio = f"{row['adaptive'] / plain:5.1f}x" if plain else ""
        print(
            f"  {row['store']:<38} {plain or '':>8} {row['adaptive']:>9} {ratio:>6} "
            f"{row['window']:>7.0f}"
        )
        if "refused" in row:
            print(f"    {row['refused']} of {row['requests']} requests refused; every image came")
    print("  " + ", ".join(f"{key} {value}" for key, value in machine.description().items()))


if __name__ == "__main__":
    main()
