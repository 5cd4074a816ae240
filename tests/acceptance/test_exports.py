"""A finished job, shown at another threshold, with every worker that has a network stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask as masks

from domain.results import InstanceRow
from maskmill.client import dataset_source
from tests.acceptance.conftest import Service

pytestmark = pytest.mark.xdist_group("service")  # they share a stack

COUNT = 16
PROMPTS = ["red circle", "square"]


@contextmanager
def stopped(service: Service, name: str) -> Iterator[None]:
    """It lives, and does nothing."""
    service.kill(name, signal.SIGSTOP)
    try:
        yield
    finally:
        service.kill(name, signal.SIGCONT)


def export(service: Service, job_id: str, folder: Path, *words: str) -> dict[str, Any]:
    """As a user runs it; the COCO document."""
    environment = {
        **os.environ,
        "MASKMILL_URL": service.stack.url,
        "MASKMILL_API_KEY": service.stack.api_key,
    }
    command = [sys.executable, "-m", "maskmill", "export", job_id, "-f", "coco", "-o", str(folder)]
    done = subprocess.run(
        [*command, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "instances" in done.stdout
    document: dict[str, Any] = json.loads((folder / "annotations.coco.json").read_text())
    return document


def in_a_gap(rows: list[InstanceRow]) -> float:
    """A score between 0.3 and 0.9 to which no instance comes near."""
    scores = sorted({0.3, 0.9, *(row.score for row in rows if 0.3 <= row.score <= 0.9)})
    gaps = [(high - low, (high + low) / 2) for low, high in pairwise(scores)]
    return round(max(gaps)[1], 4)


def test_a_job_shown_at_a_threshold_is_the_job_run_at_that_threshold(
    service: Service, scenes: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(scenes.iterdir())[:COUNT]:
        shutil.copy(path, few)
    source = dataset_source(service.link(few))
    first = service.finish(service.client.create_job(source, PROMPTS))
    rows = service.instances(first)
    threshold = in_a_gap(rows)
    again = service.finish(service.client.create_job(source, PROMPTS, floor=threshold))
    with stopped(service, "bulk"):
        shown = export(service, first.id, tmp_path / "shown", "--min-score", str(threshold))
        run = export(service, again.id, tmp_path / "run", "--min-score", "0")
    kept = [row for row in rows if row.score >= threshold]
    assert 0 < len(kept) < len(rows)
    assert len(shown["annotations"]) == len(run["annotations"]) == len(kept)
    assert shown["images"] == run["images"]
    assert len(shown["images"]) == COUNT
    assert shown["categories"] == run["categories"]
    for one, other in zip(by_image(shown), by_image(run), strict=True):
        assert key(one) == key(other)
        assert one["score"] == pytest.approx(other["score"], abs=1e-3)
        assert masks.iou([one["segmentation"]], [other["segmentation"]], [0])[0][0] > 0.98


def key(annotation: dict[str, Any]) -> tuple[int, int]:
    return annotation["image_id"], annotation["category_id"]


def by_image(document: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(document["annotations"], key=lambda a: (*key(a), a["bbox"]))
