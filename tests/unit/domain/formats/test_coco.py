import io
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from domain.formats.coco import CocoCounts, write_coco
from domain.prompts import categories
from domain.results import ImageRow, InstanceRow, iter_images, iter_instances
from storage.result_files import write_parts
from tests.unit.domain.result_rows import JOB_PROMPTS, PROVENANCE, Slice, disc, two_slices

# pycocotools 2.0.11 has not followed numpy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = categories(JOB_PROMPTS)


def rows_of(slices: list[Slice]) -> tuple[list[ImageRow], list[InstanceRow]]:
    parts = [write_parts(rows, job_prompts=JOB_PROMPTS, provenance=PROVENANCE) for rows in slices]
    images = [row for _, part in parts for row in iter_images(part)]
    instances = [row for part, _ in parts for row in iter_instances(part)]
    return images, instances


def written(images: list[ImageRow], instances: list[InstanceRow], **kwargs: Any) -> dict[str, Any]:
    out = io.StringIO()
    arguments = {"categories": NAMES, "info": {"version": "1"}} | kwargs
    write_coco(out, images=iter(images), instances=iter(instances), **arguments)
    document: dict[str, Any] = json.loads(out.getvalue())
    return document


def in_pycocotools(document: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = document
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def test_every_labelled_image_is_listed_also_when_empty_and_failed_ones_are_not() -> None:
    document = written(*rows_of(two_slices()))
    assert [image["id"] for image in document["images"]] == [1, 2, 4]
    assert document["images"][0] == {
        "id": 1, "file_name": "scene-0.png", "width": 60, "height": 40,
    }  # fmt: skip
    assert {a["image_id"] for a in document["annotations"]} == {1, 4}


def test_every_class_is_a_category_in_the_order_given_also_without_instances() -> None:
    document = written(*rows_of(two_slices()), categories=["star", "unseen", "red circle"])
    names = [(entry["id"], entry["name"]) for entry in document["categories"]]
    assert names == [(1, "star"), (2, "unseen"), (3, "red circle")]
    assert [a["category_id"] for a in document["annotations"]] == [3, 3, 1, 1]


def test_annotation_ids_are_unique_and_run_from_1() -> None:
    document = written(*rows_of(two_slices()))
    assert [a["id"] for a in document["annotations"]] == [1, 2, 3, 4]


def test_scores_and_prompt_indexes_are_written() -> None:
    document = written(*rows_of(two_slices()))
    assert [a["score"] for a in document["annotations"]] == [0.9, 0.3, 0.7, 0.85]
    assert [a["prompt_index"] for a in document["annotations"]] == [0, 0, 1, 1]


def test_custom_ids_are_written_where_there_are_any() -> None:
    images, instances = rows_of(two_slices())
    images[1] = replace(images[1], custom_id="order 66")
    document = written(images, instances)
    assert [image.get("custom_id") for image in document["images"]] == [None, "order 66", None]


def test_the_counts_are_those_of_the_document() -> None:
    images, instances = rows_of(two_slices())
    out = io.StringIO()
    counts = write_coco(out, images=images, instances=instances, categories=NAMES, info={})
    assert counts == CocoCounts(images=3, annotations=4)


def test_a_result_without_images_is_a_valid_document() -> None:
    document = written([], [])
    assert (document["images"], document["annotations"]) == ([], [])
    assert len(document["categories"]) == 2


def test_names_that_json_must_escape_come_back() -> None:
    images, _ = rows_of(two_slices())
    name = 'a "quoted"\n\u2028 näme 🐙.png'
    document = written([replace(images[0], image=name)], [], categories=[name])
    assert document["images"][0]["file_name"] == name
    assert document["categories"][0]["name"] == name


def test_an_instance_of_an_unknown_category_is_an_error() -> None:
    with pytest.raises(ValueError, match="'star'"):
        written(*rows_of(two_slices()), categories=["red circle"])


def test_masks_areas_and_boxes_in_pycocotools_are_those_of_the_mask() -> None:
    coco = in_pycocotools(written(*rows_of(two_slices())))
    expected = disc(60, 40, x=20, y=20, radius=10)
    annotation = coco.anns[1]
    assert np.array_equal(coco.annToMask(annotation), expected)
    rows, columns = np.nonzero(expected)
    assert annotation["area"] == expected.sum()
    assert annotation["bbox"] == [
        columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1,
    ]  # fmt: skip


def test_the_file_loads_in_pycocotools_and_a_perfect_prediction_scores_1(tmp_path: Any) -> None:
    path = tmp_path / "annotations.coco.json"
    images, instances = rows_of(two_slices())
    with path.open("w") as out:
        write_coco(out, images=images, instances=instances, categories=NAMES, info={})
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        found = truth.loadRes(json.loads(path.read_text())["annotations"])
        evaluation = COCOeval(truth, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_memory_stays_flat_for_any_number_of_rows() -> None:
    images, instances = rows_of(two_slices())

    class Nowhere(io.TextIOBase):
        def write(self, text: str) -> int:
            return len(text)

    def peak(count: int) -> int:
        many_images: Iterator[ImageRow] = (images[0] for _ in range(count))
        many: Iterator[InstanceRow] = (instances[0] for _ in range(count))
        tracemalloc.start()
        write_coco(Nowhere(), images=many_images, instances=many, categories=NAMES, info={})
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # what is loaded once
    assert peak(5_000) < peak(50) + 100_000
