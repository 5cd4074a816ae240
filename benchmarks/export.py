"""Instances per second of CPU and memory of each export format, and whether either grows with the
result.

    python -m benchmarks.export [--instances 1e4,1e5,1e6] [--formats coco,yolo] [--output FOLDER]

A result of so many instances is made up: five on each image of 1024x1024, 64 images a slice, their
masks those of the demo's scenes. Each row is a process of its own that reads its Parquet parts
from a folder, checks them, and writes the format as a planner does, files and SHA-256 included;
what it takes to start is not counted. Seconds are those of CPU, all threads together, since others
may use the machine; a row also has those of the clock. `peak` is the most memory it had at any
time, with what the imports take. The plain way reads everything into lists, decodes and encodes
each mask with pycocotools and writes one COCO document with `json.dump`; it is left out above
`--plain-up-to`, where it does not fit into memory. Rows of earlier runs that this one does not
measure again are kept. Needs Linux.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from domain.annotations import ImageOutcome, Instance, Rle
from domain.documents import JobPromptDocument
from domain.export_source import ResultSource, export_info
from domain.exports import ExportFormat, ExportOptions
from domain.formats import WRITERS
from domain.items import Item
from domain.prompts import ConceptPrompt
from domain.result_manifest import (
    ResultFile,
    ResultManifest,
    ResultPart,
    ResultTotals,
    manifest_pieces,
    read_frame,
)
from domain.results import Provenance, iter_images, iter_instances
from domain.view import View
from maskmill.sample_scenes import SHAPES, draw_scene
from storage import object_keys
from storage.export_runs import ExportLease
from storage.local_store import LocalStore
from storage.result_files import write_parts
from workers.export_parts import StoredParts
from workers.export_sink import StoreSink

SIZE = 1024  # pixels, of every image
SCENES = 60
PER_IMAGE, IMAGES_PER_SLICE = 5, 64
PLAIN = "the plain way"
LISTED = "manifest.json"
RESULTS = Path(__file__).parent / "results"
POLYGONS = (ExportFormat.COCO, ExportFormat.LABEL_STUDIO)  # may hold either


@dataclass(frozen=True)
class Way:
    """A format, as the rows name it."""

    name: str
    format: ExportFormat
    geometry: str = "rle"


def ways(names: Sequence[str]) -> list[Way]:
    found = [Way(str(one), one) for one in ExportFormat]
    found += [Way(f"{one}-polygons", one, "polygon") for one in POLYGONS]
    return [way for way in found if not names or way.name in names]


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(_measure(options.one, options.geometry, options.folder)))
        return
    output = options.output or RESULTS / f"cpu-{os.cpu_count()}-cores"
    for count in options.instances:
        with tempfile.TemporaryDirectory(prefix="maskmill-bench-") as name:
            mask_bytes = write_result(Path(name), instances=count)
            for row in _rows(Path(name), count, options):
                print(_line(row), flush=True)
                _leave(output, row, mask_bytes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=_sizes, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--formats", type=lambda text: text.split(","), default=[])
    parser.add_argument("--plain-up-to", type=lambda text: int(float(text)), default=100_000)
    parser.add_argument("--output", type=Path, help="folder for export.json and export.md")
    for hidden in ("--one", "--geometry"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _sizes(text: str) -> list[int]:
    return [int(float(part)) for part in text.split(",")]


def _rows(folder: Path, count: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for way in ways(options.formats):
        yield {"way": way.name, "result": count, **_run(way.format, way.geometry, folder)}
    if count <= options.plain_up_to:
        yield {"way": PLAIN, "result": count, **_run(PLAIN, "rle", folder)}


def _run(one: str, geometry: str, folder: Path) -> dict[str, Any]:
    """In a process of its own."""
    words = ("--one", one, "--geometry", geometry, "--folder", str(folder))
    command = [sys.executable, "-m", "benchmarks.export", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# The result


def write_result(folder: Path, *, instances: int) -> float:
    """Parts and manifest below `folder`; the mean bytes of a mask's run lengths."""
    masks = _masks()
    (folder / "parts").mkdir(parents=True)
    images = instances // PER_IMAGE
    parts = _parts(folder, masks, images)
    totals = ResultTotals(images=images, succeeded=images, failed=0, instances=instances)
    with (folder / LISTED).open("wb") as out:
        out.writelines(manifest_pieces(_frame(totals), parts))
    return float(np.mean([len(mask.mask.counts) for mask in masks]))


def _masks() -> list[Instance]:
    """Of the scenes' objects, each with its own score."""
    random = np.random.default_rng(0)
    return [
        _instance(thing.mask, thing.shape, score=float(random.uniform(0.5, 1)))
        for number in range(SCENES)
        for thing in draw_scene(number, size=SIZE).objects
    ]


def _instance(mask: np.ndarray, shape: str, *, score: float) -> Instance:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    x, y, width, height = map(float, coco_mask.toBbox(rle))
    area = int(coco_mask.area(rle))
    prompt = SHAPES.index(shape)
    counts = Rle((SIZE, SIZE), rle["counts"])
    return Instance(prompt, shape, score, (x, y, width, height), area, counts)


def _parts(folder: Path, masks: list[Instance], images: int) -> Iterator[ResultPart]:
    provenance = Provenance("job_bench", "demo-sam3", "0" * 64, "0")
    prompts = [ConceptPrompt(shape) for shape in SHAPES]
    for number, first in enumerate(range(0, images, IMAGES_PER_SLICE)):
        indexes = range(first, min(first + IMAGES_PER_SLICE, images))
        rows = [_image(index, masks) for index in indexes]
        bodies = write_parts(rows, job_prompts=prompts, provenance=provenance)
        annotations, pictures = (
            _stored(folder, key(number, start=0, token=1), body, rows=count)
            for key, body, count in zip(
                (object_keys.annotations_part, object_keys.images_part),
                bodies,
                (len(rows) * PER_IMAGE, len(rows)),
                strict=True,
            )
        )
        yield ResultPart(
            annotations=annotations,
            images=pictures,
            first_image_index=first,
            image_count=len(rows),
        )


def _image(index: int, masks: list[Instance]) -> tuple[Item, ImageOutcome]:
    found = tuple(masks[(index * 7 + number * 13) % len(masks)] for number in range(PER_IMAGE))
    name = f"camera-{index % 16:02}/{index:09}.jpg"
    return Item(index, name, f"s3://bucket/{name}"), ImageOutcome(SIZE, SIZE, instances=found)


def _stored(folder: Path, key: str, body: bytes, *, rows: int) -> ResultFile:
    (folder / key).write_bytes(body)
    return ResultFile(key=key, sha256=sha256(body).hexdigest(), bytes=len(body), rows=rows)


def _frame(totals: ResultTotals) -> ResultManifest:
    return ResultManifest(
        job_id="job_bench",
        number=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        model="demo-sam3",
        weights_sha256="0" * 64,
        code_version="0",
        prompts=[JobPromptDocument(text=shape) for shape in SHAPES],
        categories=list(SHAPES),
        floor=0.1,
        parts=[],
        totals=totals,
    )


# One row, in a process of its own


def _measure(one: str, geometry: str, folder: Path) -> dict[str, Any]:
    imported_mib = _peak_mib()
    began, cpu_began = time.perf_counter(), time.process_time()
    written = _plain(folder) if one == PLAIN else _exported(ExportFormat(one), geometry, folder)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    return {
        **written,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "instances_per_cpu_second": round(written["instances"] / cpu_seconds),
        "imported_mib": round(imported_mib),
        "peak_mib": round(_peak_mib()),
    }


def _peak_mib() -> float:
    """Not `ru_maxrss`, which is at least what the process had that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1024


def _exported(format_: ExportFormat, geometry: str, folder: Path) -> dict[str, Any]:
    options = ExportOptions.model_validate({"format": format_, "geometry": geometry})
    store = LocalStore.create(folder)
    with (
        StoredParts(store, folder / LISTED, note=lambda: None) as parts,
        tempfile.TemporaryDirectory(dir=folder) as temporary,
        (folder / LISTED).open("rb") as listed,
    ):
        frame = read_frame(listed)
        view = View(options, frame.categories)
        info = export_info(frame, options, classes=view.classes)
        source = ResultSource(info, parts.parts, parts.open_part, view.show)
        lease = ExportLease("exp_bench", 1, 1)
        sink = StoreSink(store, Path(temporary), lease, lambda: None, lambda: None)
        counts = WRITERS[format_](source, sink)
    store.delete(file.key for file in sink.files)
    loss = {} if counts.loss is None else {"mean_iou": round(counts.loss.mean_iou, 4)}
    size = sum(file.bytes for file in sink.files)
    return {"instances": counts.instances, "files": len(sink.files), "bytes": size, **loss}


def _plain(folder: Path) -> dict[str, Any]:
    paths = sorted((folder / "parts").glob("*.images.parquet"))
    images = [row for path in paths for row in iter_images(path.read_bytes())]
    paths = sorted((folder / "parts").glob("*.annotations.parquet"))
    rows = [row for path in paths for row in iter_instances(path.read_bytes())]
    document = {
        "categories": [{"id": n, "name": name} for n, name in enumerate(SHAPES, start=1)],
        "images": [
            {"id": r.image_index + 1, "file_name": r.image, "width": r.width, "height": r.height}
            for r in images
        ],
        "annotations": [_annotation(number, row) for number, row in enumerate(rows, start=1)],
    }
    with tempfile.TemporaryFile("w+", dir=folder) as out:
        json.dump(document, out)
        return {"instances": len(rows), "files": 1, "bytes": out.tell()}


def _annotation(number: int, row: Any) -> dict[str, Any]:
    mask = coco_mask.decode({"size": row.mask.size, "counts": row.mask.counts})
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {
        "id": number,
        "image_id": row.image_index + 1,
        "category_id": SHAPES.index(row.category) + 1,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        "area": int(mask.sum()),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "iscrowd": 0,
        "score": row.score,
    }


# What is left of it


def _line(row: dict[str, Any]) -> str:
    loss = f"  IoU {row['mean_iou']:.4f}" if "mean_iou" in row else ""
    return (
        f"{row['way']:<24} {row['result']:>9,}  {row['instances_per_cpu_second']:>7,}/s  "
        f"{row['peak_mib']:>6,} MiB  {row['bytes'] / row['instances']:>6,.0f} bytes each{loss}"
    )


def _leave(output: Path, row: dict[str, Any], mask_bytes: float) -> None:
    """After each row, so that a run which is cut short leaves what it has measured."""
    from benchmarks import machine  # brings torch, which the measured processes do without

    described = machine.description()
    output.mkdir(parents=True, exist_ok=True)
    rows = [*_earlier(output / "export.json", row), {**row, "commit": described["commit"]}]
    rows.sort(key=lambda row: (row["result"], row["way"] == PLAIN))
    result = {"mask_bytes": round(mask_bytes), "rows": rows, "machine": described}
    (output / "export.json").write_text(json.dumps(result, indent=2) + "\n")
    (output / "export.md").write_text(table(rows, mask_bytes, described))


def _earlier(path: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    return [one for one in rows if (one["way"], one["result"]) != (row["way"], row["result"])]


def table(rows: list[dict[str, Any]], mask_bytes: float, machine: dict[str, str]) -> str:
    """Markdown: a row for each way, instances per second of CPU and peak memory for each size."""
    sizes = sorted({row["result"] for row in rows})
    measured = {(row["way"], row["result"]): row for row in rows}
    names = list(dict.fromkeys(row["way"] for row in rows))
    heads = " | ".join(f"{size:,}" for size in sizes)
    lines = [
        f"| instances per second of CPU, peak MiB | {heads} | mean IoU |",
        "|---|" + "---|" * (len(sizes) + 1),
    ]
    for name in names:
        found = [measured.get((name, size)) for size in sizes]
        cells = " | ".join(_cell(row) for row in found)
        loss = [f"{row['mean_iou']:.4f}" for row in found if row and "mean_iou" in row]
        lines.append(f"| {name} | {cells} | {loss[-1] if loss else ''} |")
    said = ", ".join(f"{key} {value}" for key, value in machine.items())
    masks = (
        f"Masks of {mask_bytes:.0f} bytes of run lengths on average, in {SIZE}x{SIZE} pixels. They "
        "are the same some hundred over and over, which Parquet compresses better than others."
    )
    return "\n".join([*lines, "", masks, "", said, ""])


def _cell(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['instances_per_cpu_second']:,}, {row['peak_mib']:,}"


if __name__ == "__main__":
    main()
