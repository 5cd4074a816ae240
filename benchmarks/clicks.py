"""Seconds until a person has an answer: idle, and while a bulk job keeps the other worker busy.

    python -m benchmarks.clicks [--requests 40] [--output FILE]

One client, one request at a time, against the embedded stack over HTTP. The bulk job labels scenes
with 16 prompts all the while; its images per second are taken once while nobody clicks and once
while somebody clicks without pause, which is what courtesy towards clicks costs at its worst.
"""

import argparse
import base64
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks import machine
from benchmarks.throughput import PROMPTS
from maskmill.client import Client, dataset_source
from maskmill.embedded import EmbeddedStack, StackOptions
from maskmill.sample_scenes import draw_scene

BULK_IMAGES = 4000  # more than are labelled while this runs
SETTLE_SECONDS = 5.0
ALONE_SECONDS = 30.0
Ask = Callable[[], None]


@dataclass(frozen=True)
class Latencies:
    """Milliseconds."""

    p50: float
    p95: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Latencies":
        cuts = statistics.quantiles(seconds, n=20, method="inclusive")
        return cls(round(1000 * statistics.median(seconds), 1), round(1000 * cuts[-1], 1))


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        stack_options = StackOptions(data=folder / "data", announce=lambda _line: None)
        with EmbeddedStack(stack_options) as stack, Client(stack.url, stack.api_key) as client:
            result = _measure(stack, client, folder / "images", options.requests)
    _report(options, result)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=40, help="of each kind, idle and loaded")
    parser.add_argument("--output", type=Path, help="also write the result here, as JSON")
    return parser.parse_args()


def _measure(stack: EmbeddedStack, client: Client, images: Path, requests: int) -> dict[str, Any]:
    _draw(images)
    while httpx.get(f"{stack.url}/readiness", timeout=10).status_code != 200:
        time.sleep(0.2)
    with httpx.Client(base_url=stack.url, timeout=60, params={"api_key": stack.api_key}) as http:
        kinds = _kinds(http)
        idle = {name: _timed(ask, requests) for name, ask in kinds.items()}
        with _bulk_job(stack, client, images) as labelled:
            alone = _rate(labelled, lambda: time.sleep(ALONE_SECONDS))
            loaded = dict[str, Latencies]()
            beside = _rate(labelled, lambda: loaded.update(_all_timed(kinds, requests)))
    return {
        "milliseconds": {
            name: {"idle": vars(idle[name]), "loaded": vars(loaded[name])} for name in kinds
        },
        "bulk_images_per_second": {"nobody clicks": alone, "clicks without pause": beside},
    }


def _kinds(http: httpx.Client) -> dict[str, Ask]:
    scene = draw_scene(3)
    image = {"type": "base64", "value": base64.b64encode(scene.encoded("JPEG")).decode()}
    _post(http, "/sam3/embed_image", image=image, image_id="clicked")
    x, y = scene.objects[0].centre
    click = {"points": [{"x": x, "y": y, "positive": True}]}

    def concept(count: int) -> Ask:
        prompts = [{"type": "text", "text": text} for text in PROMPTS[:count]]
        return lambda: _post(http, "/sam3/concept_segment", image=image, prompts=prompts)

    return {
        "click on an embedded image": lambda: _post(
            http, "/sam3/visual_segment", image_id="clicked", prompts=[click]
        ),
        "concepts, 1 prompt": concept(1),
        "concepts, 16 prompts": concept(16),
    }


def _post(http: httpx.Client, path: str, **body: Any) -> None:
    http.post(path, json=body).raise_for_status()


def _timed(ask: Ask, requests: int) -> Latencies:
    for _ in range(3):
        ask()
    seconds = []
    for _ in range(requests):
        started = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - started)
    return Latencies.of(seconds)


def _all_timed(kinds: dict[str, Ask], requests: int) -> dict[str, Latencies]:
    return {name: _timed(ask, requests) for name, ask in kinds.items()}


def _draw(folder: Path) -> None:
    """A few scenes under many names: drawing 4,000 would take longer than all the rest."""
    folder.mkdir()
    files = [draw_scene(seed).encoded("JPEG") for seed in range(64)]
    for number in range(BULK_IMAGES):
        (folder / f"{number:06d}.jpg").write_bytes(files[number % len(files)])


@contextmanager
def _bulk_job(stack: EmbeddedStack, client: Client, images: Path) -> Iterator[Callable[[], int]]:
    """Yields how many images are done so far."""
    linked = stack.command(sys.executable, "-m", "api.datasets", "link", str(images))
    source = dataset_source(json.loads(linked.stdout)["id"])
    job = client.create_job(source, PROMPTS)

    def labelled() -> int:
        return client.get_job(job.id).counts.succeeded

    while not labelled():
        time.sleep(0.2)
    time.sleep(SETTLE_SECONDS)
    yield labelled
    if labelled() == BULK_IMAGES:
        raise SystemExit("the bulk job was done too soon; the loaded figures are not")
    client.cancel(job.id)


def _rate(labelled: Callable[[], int], meanwhile: Callable[[], object]) -> float:
    """Images per second of the bulk job while `meanwhile` runs."""
    before, started = labelled(), time.perf_counter()
    meanwhile()
    return round((labelled() - before) / (time.perf_counter() - started), 2)


def _report(options: argparse.Namespace, result: dict[str, Any]) -> None:
    print(f"{options.requests} requests of each kind, scenes of 512x512, demo-sam3; milliseconds")
    print(f"  {'':<28} {'idle p50':>9} {'p95':>7} {'loaded p50':>11} {'p95':>7}  p95 / idle")
    for name, of in result["milliseconds"].items():
        idle, loaded = of["idle"], of["loaded"]
        ratio = loaded["p95"] / idle["p95"]
        print(
            f"  {name:<28} {idle['p50']:9.1f} {idle['p95']:7.1f} "
            f"{loaded['p50']:11.1f} {loaded['p95']:7.1f} {ratio:11.2f}"
        )
    for name, rate in result["bulk_images_per_second"].items():
        print(f"  bulk job, {name:<22} {rate:6.2f} images/s")
    print("  " + ", ".join(f"{key} {value}" for key, value in machine.description().items()))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(
            json.dumps({**result, "machine": machine.description()}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
