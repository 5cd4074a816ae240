"""`maskmill label` as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskmill.sample_scenes import Scene, draw_scene

NAMES = {
    "annotations.coco.json",
    "contact-sheet.png",
    "errors.jsonl",
    "manifest.json",
    "parts",
}


def maskmill(*words: str | Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "maskmill", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def truth_of(scenes: list[Scene], folder: Path) -> COCO:
    """COCO ground truth of the drawn circles and squares, ids as maskmill gives them."""
    annotations = []
    for image_id, scene in enumerate(scenes, start=1):
        for drawn in (o for o in scene.objects if o.shape in ("circle", "square")):
            rle = masks.encode(drawn.mask.astype("uint8", order="F"))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1 if drawn.shape == "circle" else 2,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    "area": int(drawn.mask.sum()),
                    "bbox": masks.toBbox(rle).tolist(),
                    "iscrowd": 0,
                }
            )
    document = {
        "images": [{"id": n, "width": 512, "height": 512} for n in range(1, len(scenes) + 1)],
        "categories": [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}],
        "annotations": annotations,
    }
    path = folder / "truth.json"
    path.write_text(json.dumps(document))
    return COCO(str(path))


def test_a_folder_is_labelled_and_the_result_evaluates(open_folder: Path) -> None:
    scenes = [draw_scene(seed, objects=3) for seed in range(16)]
    (open_folder / "photos").mkdir()
    for number, scene in enumerate(scenes):
        (open_folder / f"photos/{number:02d}.png").write_bytes(scene.encoded())
    turned = Image.new("RGB", (300, 200), "grey")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: 200 x 300
    turned.save(open_folder / "photos/turned.jpg", exif=exif)
    (open_folder / "photos/wrong.jpg").write_text("not a picture")
    words = ("--prompt", "circle", "--prompt", "square", "--output", "labels")

    done = maskmill("label", "photos", *words, folder=open_folder)

    assert done.returncode == 0, done.stderr
    labels = open_folder / "labels"
    assert {path.name for path in labels.iterdir()} == NAMES
    (error,) = (json.loads(line) for line in (labels / "errors.jsonl").read_text().splitlines())
    assert (error["image"], error["code"]) == ("wrong.jpg", "unsupported")
    assert "1 failed" in done.stdout
    document = json.loads((labels / "annotations.coco.json").read_text())
    assert [category["name"] for category in document["categories"]] == ["circle", "square"]
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in document["images"]}
    assert len(sizes) == 17
    assert sizes["turned.jpg"] == (200, 300)
    with Image.open(labels / "contact-sheet.png") as sheet:
        assert sheet.width > 500
    assert average_precision(truth_of(scenes, open_folder), document["annotations"]) > 0.6


def average_precision(truth: COCO, annotations: list[dict[str, object]]) -> float:
    """AP over IoU 0.5 to 0.95 of masks, over the drawn scenes."""
    known = set(truth.getImgIds())
    found = truth.loadRes([a for a in annotations if a["image_id"] in known])
    evaluation = COCOeval(truth, found, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def test_it_fails_when_nothing_could_be_labelled(open_folder: Path) -> None:
    (open_folder / "photos").mkdir()
    (open_folder / "photos/wrong.jpg").write_text("not a picture")
    done = maskmill("label", "photos", "-p", "circle", "-o", "labels", folder=open_folder)
    assert done.returncode == 1
    assert (open_folder / "labels/errors.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("nowhere", "-p", "circle"), "no such file or folder"),
        (("photos",), "prompt"),
        (("photos", "-p", " "), "empty"),
        (("photos", "-p", "circle", "--floor", "2"), "floor"),
        (("notes.md", "-p", "circle"), "neither a folder nor a manifest"),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(
    open_folder: Path, words: tuple[str, ...], reason: str
) -> None:
    (open_folder / "photos").mkdir()
    (open_folder / "notes.md").touch()
    done = maskmill("label", *words, "-o", "labels", folder=open_folder)
    assert done.returncode in {1, 2}
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not (open_folder / "labels").exists()
