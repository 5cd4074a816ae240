"""Images per second of the whole path, and of the network alone on the same images.

    python -m benchmarks.throughput [--images 512] [--prompts 16] [--output FILE]

The whole path is a job on the embedded stack: REST, planning, leases, fetching, decoding, the
network, run lengths, Parquet, commits. It is timed from the first shard's lease to the job's
end, so that starting the stack does not count. The network alone gets the same images decoded
and squashed beforehand, and its masks are thrown away. Both run twice, in turns, since machines
drift; the medians are compared. The plain way, a full forward of the stock model for every
prompt, gets a few of the images, since it is slow.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from transformers import Sam3Model, Sam3Processor

from benchmarks import machine
from domain.prompts import ConceptPrompt
from maskmill.client import Client, dataset_source
from maskmill.embedded import EmbeddedStack, StackOptions
from maskmill.sample_scenes import draw_scene
from workers.engine import load_engine
from workers.engine.checkpoint import find_checkpoint
from workers.engine.decoding import decode
from workers.engine.engine import Engine, ImageInput

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = ("red", "green", "blue", "yellow")
PROMPTS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
ROUNDS = 2
PLAIN_IMAGES = 12


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        _draw(folder / "images", options.images)
        prompts = PROMPTS[: options.prompts]
        network = load_engine(options.model, device=options.device)
        inputs = _inputs(network, folder / "images", prompts)
        alone, whole = list[float](), list[float]()
        with _job_runner(folder, prompts) as run_job:
            run_job()  # loads the network, fills the caches
            _network_alone(network, inputs[:16])
            for _ in range(ROUNDS):
                alone.append(len(inputs) / _network_alone(network, inputs))
                whole.append(len(inputs) / run_job())
        plain = _plain_way(network, sorted((folder / "images").iterdir()), prompts)
    rates = {
        "one stock forward per prompt": plain,
        "network alone": statistics.median(alone),
        "whole path": statistics.median(whole),
    }
    _report(options, rates)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--prompts", type=int, default=16, choices=range(1, 17), metavar="1-16")
    parser.add_argument("--model", default="demo-sam3")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, help="also write the result here, as JSON")
    return parser.parse_args()


def _draw(folder: Path, count: int) -> None:
    folder.mkdir()
    for seed in range(count):
        (folder / f"{seed:06d}.jpg").write_bytes(draw_scene(seed).encoded("JPEG"))


def _inputs(network: Engine, folder: Path, texts: Sequence[str]) -> list[ImageInput]:
    prompts = tuple(ConceptPrompt(text) for text in texts)
    inputs = []
    for path in sorted(folder.iterdir()):
        pixels = decode(path.read_bytes(), max_pixels=10**8).pixels
        height, width, _ = pixels.shape
        inputs.append(ImageInput(network.squash(pixels), width, height, prompts, 0.1))
    return inputs


def _network_alone(network: Engine, inputs: Sequence[ImageInput]) -> float:
    """Seconds."""
    size = network.images_per_batch
    started = time.perf_counter()
    for start in range(0, len(inputs), size):
        network.segment(inputs[start : start + size])
    return time.perf_counter() - started


def _plain_way(network: Engine, images: Sequence[Path], texts: Sequence[str]) -> float:
    """Images per second of Sam3Processor and Sam3Model as their documentation shows them."""
    directory = find_checkpoint(network.name)
    stock = Sam3Model.from_pretrained(directory, dtype=torch.float32).eval()
    stock.to(network.device)
    processor = Sam3Processor.from_pretrained(directory)
    started = time.perf_counter()
    for path in images[:PLAIN_IMAGES]:
        with Image.open(path) as image, torch.inference_mode():
            for text in texts:
                inputs = processor(images=image, text=text, return_tensors="pt").to(network.device)
                processor.post_process_instance_segmentation(
                    stock(**inputs), threshold=0.1, target_sizes=[image.size[::-1]]
                )
    return min(len(images), PLAIN_IMAGES) / (time.perf_counter() - started)


@contextmanager
def _job_runner(folder: Path, texts: Sequence[str]) -> Iterator["_JobRunner"]:
    options = StackOptions(data=folder / "data", announce=lambda _line: None, interactive=False)
    with EmbeddedStack(options) as stack, Client(stack.url, stack.api_key) as client:
        yield _JobRunner(stack, client, folder / "images", texts)


class _JobRunner:
    def __init__(
        self, stack: EmbeddedStack, client: Client, images: Path, texts: Sequence[str]
    ) -> None:
        linked = stack.command(sys.executable, "-m", "api.datasets", "link", str(images))
        self._source = dataset_source(json.loads(linked.stdout)["id"])
        self._client, self._texts = client, texts

    def __call__(self) -> float:
        """Seconds from the first lease to the job's end."""
        job = self._client.wait(self._client.create_job(self._source, self._texts).id)
        if job.counts.succeeded != job.counts.total or job.finished_at is None:
            raise SystemExit(f"the job did not succeed: {job}")
        events = self._client.events(job.id)
        begun = next(event.at for event in events if event.kind == "shard.running")
        return (job.finished_at - begun).total_seconds()


def _report(options: argparse.Namespace, rates: dict[str, float]) -> None:
    plain, alone = rates["one stock forward per prompt"], rates["network alone"]
    scenario = f"{options.images} JPEG images of 512x512, {options.prompts} prompts each"
    print(f"{scenario}, {options.model}")
    for name, rate in rates.items():
        print(f"  {name:<30} {rate:8.2f} images/s  {rate / plain:5.1f} x plain {rate / alone:6.0%}")
    print("  " + ", ".join(f"{key} {value}" for key, value in machine.description().items()))
    if options.output:
        result = {
            "scenario": scenario,
            "model": options.model,
            "images_per_second": {name: round(rate, 2) for name, rate in rates.items()},
            "machine": machine.description(),
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
