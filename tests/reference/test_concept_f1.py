"""cgF1, pmF1 and IL_MCC against Meta's own code on the same masks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sam3.eval.cgf1_eval import CGF1Evaluator

from domain.evaluation.documents import ConceptFigures
from tests.unit.domain.evaluation.any_cases import many_cases
from tests.unit.domain.evaluation.cases import Case, evaluated, rle

PROMPTS = ("a", "b", "c")


def by_meta(folder: Path, images: Sequence[Case], prompts: Sequence[int]) -> dict[str, float]:
    """What it calls an image is an image and a prompt."""
    points = [(image, prompt) for image in images for prompt in prompts]
    truth: dict[str, Any] = {
        "images": [
            {"id": n, "width": image.size[1], "height": image.size[0], "is_instance_exhaustive": 1}
            for n, (image, _) in enumerate(points)
        ],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            {"image_id": n, "category_id": 1, "iscrowd": int(one.crowd), **segmentation(one.mask)}
            for n, (image, prompt) in enumerate(points)
            for one in image.wanted
            if one.class_id == prompt
        ],
    }
    for number, annotation in enumerate(truth["annotations"], start=1):
        annotation["id"] = number
    found = [
        {"image_id": n, "category_id": 1, "score": one.score, **segmentation(one.mask)}
        for n, (image, prompt) in enumerate(points)
        for one in image.found
        if one.prompt == prompt
    ]
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(found))
    figures: dict[str, float] = CGF1Evaluator(str(folder / "truth.json")).evaluate(
        str(folder / "found.json")
    )
    return {name.removeprefix("cgF1_eval_segm_"): value for name, value in figures.items()}


def segmentation(mask: Any) -> dict[str, Any]:
    counts = rle(mask).counts.decode()
    return {"segmentation": {"size": list(mask.shape), "counts": counts}, "area": int(mask.sum())}


def assert_equal(ours: ConceptFigures, theirs: dict[str, float]) -> None:
    assert ours.cg_f1 == theirs["cgF1"]
    assert ours.pm_f1 == theirs["positive_micro_F1"]
    assert ours.il_mcc == theirs["IL_MCC"]
    assert ours.cg_f1_50 == theirs["cgF1@0.5"]
    assert ours.pm_f1_50 == theirs["positive_micro_F1@0.5"]


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_100_images_and_several_prompts_are_those_of_meta(
    tmp_path: Path, seed: int
) -> None:
    images = many_cases(100, prompts=len(PROMPTS), seed=seed)
    report = evaluated(images, PROMPTS)
    theirs = by_meta(tmp_path, images, range(len(PROMPTS)))
    assert 0 < theirs["cgF1"] < 1
    assert_equal(report.overall.concept, theirs)
    for prompt in report.prompts:
        assert_equal(prompt.concept, by_meta(tmp_path, images, [prompt.prompt_index]))
