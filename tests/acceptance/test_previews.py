"""A look before the full run and a check after it, as a user has them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from domain.documents import JobPromptDocument
from maskmill.client import dataset_source
from maskmill.sample_scenes import draw_scene
from tests.acceptance.conftest import Service

pytestmark = pytest.mark.xdist_group("service")  # they share a stack

COUNT, SAMPLE = 16, 6
# Which images are sampled is chance, so there is a circle in all of them.
SEEDS = [n for n in range(60) if any(o.shape == "circle" for o in draw_scene(n, size=256).objects)]
SEEDS = SEEDS[:COUNT]
PROMPTS = {
    "circle": "round",
    "a circle": "disc",
    "Circle": "again",
    "dog": "dog",
    "circle not red": "circle not red",
}


def maskmill(service: Service, *words: str) -> str:
    environment = {
        **os.environ,
        "MASKMILL_URL": service.stack.url,
        "MASKMILL_API_KEY": service.stack.api_key,
    }
    command = [sys.executable, "-m", "maskmill", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def few(tmp_path: Path) -> Path:
    folder = tmp_path / "few"
    folder.mkdir()
    for seed in SEEDS:
        draw_scene(seed, size=256).image.save(folder / f"{seed:02}.png")
    return folder


def test_a_preview_says_what_is_wrong_with_prompts_and_is_promoted(
    service: Service, few: Path, tmp_path: Path
) -> None:
    words = [word for text, name in PROMPTS.items() for word in ("--prompt", f"{text}::{name}")]
    report = tmp_path / "report"
    sampled = ("--images", str(SAMPLE), "--report", str(report))
    said = maskmill(service, "preview", str(few), *words, *sampled)
    job_id = said.splitlines()[0]
    found = json.loads((report / "report.json").read_text())
    texts = list(PROMPTS)
    about = {(one["code"], texts[one["prompt_index"]]) for one in found["findings"]}
    assert {
        ("finds_nothing", "dog"),
        ("negation", "circle not red"),
        ("duplicate", "Circle"),
    } <= about
    pairs = {
        frozenset((texts[one["prompt_index"]], texts[one["other_prompt_index"]]))
        for one in found["findings"]
        if one["code"] == "overlaps"
    }
    assert frozenset(("circle", "a circle")) in pairs
    assert f"maskmill promote {job_id}" in said
    assert (found["images"], found["estimate"]["images_total"]) == (SAMPLE, COUNT)
    page = (report / "report.html").read_text()
    assert page.count("data:image/jpeg") >= SAMPLE
    assert re.search(r"(?:src|href|action)=\"(?!data:|#)", page) is None  # it opens offline
    again = maskmill(service, "preview", job_id, "--report", str(report), "--json")
    assert json.loads(again) == found
    maskmill(service, "promote", job_id, "--wait")
    promoted = service.client.get_job(job_id)
    assert (promoted.status, promoted.counts.succeeded) == ("succeeded", COUNT)
    for one, other in zip(
        pieces(service, job_id), pieces(service, plain_run(service, few)), strict=True
    ):
        assert one[:3] == other[:3]
        assert one[3] == pytest.approx(other[3], abs=3)


def plain_run(service: Service, folder: Path) -> str:
    prompts = [JobPromptDocument(text=text, class_name=name) for text, name in PROMPTS.items()]
    source = dataset_source(service.link(folder))
    return service.finish(service.client.create_job(source, prompts)).id


def pieces(service: Service, job_id: str) -> list[tuple[Any, ...]]:
    """What is found clearly: in another batch, scores and the last pixels differ a little."""
    rows = service.instances(service.client.get_job(job_id))
    return sorted(
        (row.image, row.prompt_index, row.category, row.box) for row in rows if row.score >= 0.5
    )


def test_a_result_is_compared_with_what_was_drawn(
    service: Service, few: Path, tmp_path: Path
) -> None:
    job = service.finish(service.submit_folder(few, "circle", "star"))
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(drawn(["circle", "star"])))
    report = tmp_path / "report"
    said = maskmill(service, "evaluate", job.id, "--truth", str(truth), "--report", str(report))
    assert f"{COUNT} images compared" in said
    figures = json.loads((report / "report.json").read_text())
    assert figures["overall"]["precision"]["ap50"] > 0.8
    assert figures["overall"]["concept"]["il_mcc"] > 0.8
    for prompt in figures["prompts"]:
        assert prompt["suggestion"]["figures"]["f1"] >= prompt["at_min_score"]["f1"]
    assert "<svg" in (report / "report.html").read_text()
    again = maskmill(service, "evaluate", job.id, "--truth", str(truth), "--report", str(report))
    assert again == said
    assert len(list(service.client.iter_evaluations(job.id))) == 1
    names = [dataset.name for dataset in service.client.iter_datasets()]
    assert f"truth of {job.id}" not in names


def drawn(shapes: list[str]) -> dict[str, Any]:
    images, annotations = [], []
    for seed in SEEDS:
        name = f"{seed:02}.png"
        images.append({"id": seed, "file_name": name, "width": 256, "height": 256})
        for thing in draw_scene(seed, size=256).objects:
            if thing.shape in shapes:
                rle = coco_mask.encode(np.asfortranarray(thing.mask.astype(np.uint8)))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": seed,
                        "category_id": shapes.index(thing.shape) + 1,
                        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                        "area": int(coco_mask.area(rle)),
                        "bbox": coco_mask.toBbox(rle).tolist(),
                        "iscrowd": 0,
                    }
                )
    categories = [{"id": n, "name": name} for n, name in enumerate(shapes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}
