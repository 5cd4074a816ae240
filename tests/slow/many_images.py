"""Ten thousand small images through the pipeline with the demo network. A process of its own;
prints one line of JSON: how many bytes are resident after so many images."""

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from domain.prompts import ConceptPrompt
from maskmill.sample_scenes import draw_scene
from workers.engine import load_engine
from workers.engine.pipeline import ImageTask, Pipeline

IMAGES = 10_000
EVERY = 500
SIZES = (64, 96, 128, 160)  # of the images, in turn


def tasks() -> Iterator[ImageTask]:
    scenes = [draw_scene(seed, size=SIZES[seed % 4]).encoded("JPEG") for seed in range(40)]
    for number in range(IMAGES):
        text = "star" if number % 2 else f"red circle {number}"  # more texts than are cached
        data = scenes[number % len(scenes)]
        yield ImageTask(partial(bytes, data), (ConceptPrompt(text),))


def resident_bytes() -> int:
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    )
    return int(line.split()[1]) * 1024


def main() -> None:
    pipeline = Pipeline(load_engine("demo-sam3", device="cpu"), floor=0.1, max_pixels=10**6)
    started, resident, instances = time.perf_counter(), {}, 0
    for number, outcome in enumerate(pipeline.run(tasks()), start=1):
        assert outcome.error_code is None, outcome
        instances += len(outcome.instances)
        if number % EVERY == 0:
            resident[number] = resident_bytes()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "instances": instances, "resident": resident}))  # noqa: T201


if __name__ == "__main__":
    main()
