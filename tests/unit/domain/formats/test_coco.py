import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from domain.exports import ExportCounts, ExportFormat, ExportInfo, PolygonLoss
from domain.formats.coco import write_coco, write_coco_shards
from tests.unit.domain.hard_masks import (
    FolderSink,
    RowSource,
    hard_source,
    image_rows,
    pixels,
    source_of,
)

# pycocotools 2.0.11 has not followed numpy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ONLY_FILE = "annotations.coco.json"


def written(source: RowSource, sink: FolderSink) -> dict[str, Any]:
    write_coco(source, sink)
    document: dict[str, Any] = json.loads((sink.folder / ONLY_FILE).read_bytes())
    return document


def in_pycocotools(path: Path) -> COCO:
    with redirect_stdout(io.StringIO()):
        return COCO(str(path))


def hard(**options: Any) -> RowSource:
    return hard_source(ExportFormat.COCO, **options)


def test_every_image_is_listed_also_when_empty(sink: FolderSink) -> None:
    document = written(hard(), sink)
    assert document["images"][:3] == [
        {"id": 1, "file_name": "scenes/hard.png", "width": 60, "height": 40},
        {"id": 2, "file_name": 'ärger & "co".png', "width": 20, "height": 30,
         "custom_id": "order 66"},
        {"id": 4, "file_name": "empty.png", "width": 60, "height": 40},
    ]  # fmt: skip
    assert [a["image_id"] for a in document["annotations"]] == [1, 1, 1, 1, 2, 5, 6]


def test_every_class_is_a_category_with_the_name_the_view_gives_it(sink: FolderSink) -> None:
    document = written(hard(classes={"star": "a \u2028 'st\"r'"}), sink)
    assert document["categories"] == [
        {"id": 1, "name": "red circle", "supercategory": "object"},
        {"id": 2, "name": "a \u2028 'st\"r'", "supercategory": "object"},
    ]
    assert [a["category_id"] for a in document["annotations"]] == [1, 2, 1, 2, 1, 1, 1]


def test_annotations_count_from_1_and_have_scores_and_prompts(sink: FolderSink) -> None:
    annotations = written(hard(min_score=0.8), sink)["annotations"]
    assert [a["id"] for a in annotations] == [1, 2, 3, 4, 5]
    assert [a["score"] for a in annotations] == [0.9, 0.8, 0.9, 0.9, 0.9]
    assert [a["prompt_index"] for a in annotations] == [0, 1, 0, 0, 0]


def test_the_info_says_where_the_document_comes_from(sink: FolderSink) -> None:
    source = hard()
    info = written(source, sink)["info"]
    assert (info["year"], info["date_created"]) == (2026, "2026-05-04T00:00:00Z")
    assert ExportInfo.model_validate(info) == source.info


def test_a_result_without_images_is_a_valid_document(sink: FolderSink) -> None:
    assert write_coco(source_of([], ExportFormat.COCO), sink) == ExportCounts(0, 0)
    assert in_pycocotools(sink.folder / ONLY_FILE).imgs == {}


@pytest.mark.parametrize("coordinates", ["oriented", "raw"])
def test_run_lengths_come_back_equal_in_pycocotools(sink: FolderSink, coordinates: str) -> None:
    source = hard(coordinates=coordinates)
    assert write_coco(source, sink) == ExportCounts(images=5, instances=7)
    coco = in_pycocotools(sink.folder / ONLY_FILE)
    shown = [instance for image in source.shown() for instance in image.instances]
    for instance, annotation in zip(shown, coco.anns.values(), strict=True):
        assert np.array_equal(coco.annToMask(annotation), pixels(instance.mask))
        assert annotation["area"] == coco.annToMask(annotation).sum()
        assert annotation["bbox"] == coco_mask.toBbox(coco.annToRLE(annotation)).tolist()


@pytest.mark.parametrize("tolerance", [0, 0.5, 2])
def test_polygons_in_pycocotools_lose_what_the_loss_says(
    sink: FolderSink, tolerance: float
) -> None:
    source = hard(geometry="polygon", polygon_tolerance=tolerance)
    loss = write_coco(source, sink).loss
    coco = in_pycocotools(sink.folder / ONLY_FILE)
    ious = [iou for instance in lossy(source, coco) for iou in instance]
    assert loss is not None
    assert loss.instances == len(ious) == 7
    assert loss.mean_iou == pytest.approx(np.mean(ious))
    assert loss.worst_iou == pytest.approx(min(ious))


def lossy(source: RowSource, coco: COCO) -> list[list[float]]:
    """For each image the IoU of its masks and their polygons as pycocotools draws them."""
    return [
        [
            iou(pixels(instance.mask), coco.annToMask(annotation))
            for instance, annotation in zip(
                image.instances, coco.imgToAnns[image.image_index + 1], strict=True
            )
        ]
        for image in source.shown()
    ]


def iou(mask: np.ndarray, drawn: np.ndarray) -> float:
    return float((mask & drawn).sum() / (mask | drawn).sum())


def test_exact_polygons_lose_nothing(sink: FolderSink) -> None:
    loss = write_coco(hard(geometry="polygon", polygon_tolerance=0), sink).loss
    assert loss == PolygonLoss(instances=7, holes=1)


def test_each_part_of_a_mask_is_a_polygon(sink: FolderSink) -> None:
    document = written(hard(geometry="polygon", polygon_tolerance=0), sink)
    parts = [len(a["segmentation"]) for a in document["annotations"]]
    assert parts == [2, 2, 1, 2, 1, 1, 2]
    one_pixel = document["annotations"][2]["segmentation"][0]
    assert sorted(zip(one_pixel[::2], one_pixel[1::2], strict=True)) == [
        (50, 7), (50, 8), (51, 7), (51, 8),
    ]  # fmt: skip


def test_a_perfect_prediction_scores_1(sink: FolderSink) -> None:
    document = written(hard(), sink)
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(sink.folder / ONLY_FILE))
        evaluation = COCOeval(truth, truth.loadRes(document["annotations"]), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_shards_have_ids_that_mean_the_same_in_all_of_them(sink: FolderSink) -> None:
    spot = np.eye(8, dtype=np.uint8)
    rows = [image_rows(index, f"{index}.png", spot) for index in range(10_002)]
    source = source_of(rows, ExportFormat.COCO_SHARDS, classes={"red circle": "spot"})
    counts = write_coco_shards(source, sink)
    shards = [json.loads(path.read_bytes()) for path in sorted(sink.folder.iterdir())]
    assert counts == ExportCounts(images=10_002, instances=10_002)
    assert [len(shard["images"]) for shard in shards] == [10_000, 2]
    assert shards[0]["categories"] == shards[1]["categories"]
    for kind in ("images", "annotations"):
        assert [e["id"] for shard in shards for e in shard[kind]] == list(range(1, 10_003))
    for shard in shards:
        known = {image["id"] for image in shard["images"]}
        assert {a["image_id"] for a in shard["annotations"]} == known


def test_the_shards_of_a_result_without_images_are_one_document(sink: FolderSink) -> None:
    write_coco_shards(source_of([], ExportFormat.COCO_SHARDS), sink)
    (path,) = sink.folder.iterdir()
    assert path.name == "annotations-00000.coco.json"
    assert in_pycocotools(path).imgs == {}
