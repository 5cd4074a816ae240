"""Images per second of the whole path, and of the network alone on the same images.

    python -m benchmarks.throughput [--images 512] [--prompts 16] [--output FILE]

The whole path is a job on the embedded stack: REST, planning, leases, fetching, decoding, the
network, run lengths, Parquet, commits. It is timed from the first shard's lease to the job's
end, so that starting the stack does not count. The network alone gets the same images decoded
and squashed beforehand, and its masks are thrown away. Both run twice, in turns, since machines
drift; the medians are compared.
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

from benchmarks import machine
from domain.prompts import ConceptPrompt
from maskmill.client import Client, dataset_source
from maskmill.embedded import EmbeddedStack, StackOptions
from maskmill.sample_scenes import draw_scene
from workers.engine import load_engine
from workers.engine.decoding import decode
from workers.engine.network import Network, NetworkInput

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = ("red", "green", "blue", "yellow")
PROMPTS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
ROUNDS = 2


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        _draw(folder / "images", options.images)
        prompts = PROMPTS[: options.prompts]
        network = load_engine(options.model, device=options.device)
        inputs = _inputs(network, folder / "images", prompts)
        alone, whole = [], []
        with _job_runner(folder, prompts) as run_job:
            run_job()  # loads the network, fills the caches
            _network_alone(network, inputs[:16])
            for _ in range(ROUNDS):
                alone.append(len(inputs) / _network_alone(network, inputs))
                whole.append(len(inputs) / run_job())
    _report(options, alone=statistics.median(alone), whole=statistics.median(whole))


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


def _inputs(network: Network, folder: Path, texts: Sequence[str]) -> list[NetworkInput]:
    prompts = tuple(ConceptPrompt(text) for text in texts)
    inputs = []
    for path in sorted(folder.iterdir()):
        pixels = decode(path.read_bytes(), max_pixels=10**8).pixels
        height, width, _ = pixels.shape
        inputs.append(NetworkInput(network.squash(pixels), width, height, prompts))
    return inputs


def _network_alone(network: Network, inputs: Sequence[NetworkInput]) -> float:
    """Seconds."""
    size = network.images_per_batch
    started = time.perf_counter()
    for start in range(0, len(inputs), size):
        network.segment(inputs[start : start + size], floor=0.1)
    return time.perf_counter() - started


@contextmanager
def _job_runner(folder: Path, texts: Sequence[str]) -> Iterator["_JobRunner"]:
    options = StackOptions(data=folder / "data", announce=lambda _line: None)
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


def _report(options: argparse.Namespace, *, alone: float, whole: float) -> None:
    result = {
        "scenario": f"{options.images} JPEG images of 512x512, {options.prompts} prompts each, "
        f"{options.model}",
        "network_alone_images_per_second": round(alone, 2),
        "whole_path_images_per_second": round(whole, 2),
        "whole_path_share": round(whole / alone, 3),
        "machine": machine.description(),
    }
    print(result["scenario"])
    print(f"  network alone  {alone:8.2f} images/s")
    print(f"  whole path     {whole:8.2f} images/s   {whole / alone:.0%} of the network alone")
    print("  " + ", ".join(f"{k} {v}" for k, v in machine.description().items()))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
