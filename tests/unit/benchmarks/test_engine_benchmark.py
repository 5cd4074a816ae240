"""The engine's benchmark runs, and every way that it measures gives the plain way's answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import Sam3Model

from benchmarks.engine import __main__ as engine
from benchmarks.engine import subject as engine_subject
from benchmarks.engine.agreement import agreement, pixels
from benchmarks.engine.answers import Answer, full_mask
from domain.annotations import Rle
from tests.unit.workers.engine.masks import pixels_of
from tests.unit.workers.engine.random_network import sam3_config, tracker_config

CUDA_ONLY = {
    *("meta-processor", "meta-batched", "stock-compiled"),
    *("attention", "compiled", "jpeg", "float8"),
}


def results(folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    small = ["--device", "cpu", "--images", "1", "--prompts", "2", "--rounds", "1"]
    assert engine.main([*small, *arguments, "--output", str(folder)]) == 0
    (written,) = folder.glob("*.json")
    return json.loads(written.read_text()), written.with_suffix(".txt").read_text()


def check_rows(result: dict[str, Any], text: str) -> None:
    rows = result["tables"][0]["rows"]
    assert {row["key"] for row in rows if row["note"]} == CUDA_ONLY
    for row in rows:
        assert row["name"] in text
        if row["note"] is None:
            assert row["agreement"]["matched"] == 1.0, row
            assert row["agreement"]["score_difference"] < 1e-4, row
            assert row["agreement"]["instances"] > 0, row
            assert row["milliseconds_per_image"] > 0


@pytest.mark.long
def test_every_way_agrees_with_the_plain_one_on_the_demo_network(tmp_path: Path) -> None:
    result, text = results(tmp_path, "--size", "256x256")
    check_rows(result, text)
    assert (tmp_path / "engine-demo-sam3.txt").exists()
    crowd = result["tables"][1]["rows"]
    assert [row["key"] for row in crowd] == ["plain", "engine"]
    assert all(row["note"] is None and row["milliseconds_per_image"] > 0 for row in crowd)


@pytest.mark.long
def test_with_random_weights_stand_ins_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        engine_subject,
        "published_config",
        lambda kind: sam3_config() if kind is Sam3Model else tracker_config(),
    )
    result, text = results(tmp_path, "--random-weights", "--instances", "3", "--size", "160x120")
    check_rows(result, text)
    assert "3 instances in all" in text


def rle(mask: np.ndarray) -> Rle:
    encoded = full_mask(mask)
    assert encoded is not None
    return encoded


def test_run_lengths_are_read_as_pycocotools_reads_them() -> None:
    mask = np.random.default_rng(0).random((300, 200)) > 0.7
    mask[:, 50:120] = True  # runs long enough for several characters
    encoded = rle(mask)
    assert (pixels(encoded) == pixels_of(encoded).T.ravel()).all()


def test_a_mask_that_lacks_a_fiftieth_has_no_partner() -> None:
    whole = np.zeros((100, 100), dtype=bool)
    whole[:50] = True
    other = whole.copy()
    other[:2] = False
    expected = [[Answer(0, 0.9, rle(whole)), Answer(1, 0.8, rle(whole))]]
    alike = agreement([[Answer(0, 0.9, rle(other)), Answer(1, 0.7, rle(whole))]], expected)
    assert alike.matched == pytest.approx(1 / 3)
    assert alike.score_difference == pytest.approx(0.1)
