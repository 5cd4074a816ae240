from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from domain.exports import ExportCounts, ExportFormat, ExportInfo
from domain.formats.parquet import write_parquet
from domain.results import (
    Provenance,
    above_threshold,
    iter_images,
    iter_instances,
    read_provenance,
)
from tests.unit.domain.hard_masks import FolderSink, hard_rows, hard_source, image_rows, source_of

ANNOTATIONS, IMAGES = "annotations-00000.parquet", "images-00000.parquet"


def part(sink: FolderSink, name: str) -> bytes:
    return (sink.folder / name).read_bytes()


def test_instances_come_back_as_they_are_shown(sink: FolderSink) -> None:
    write_parquet(hard_source(ExportFormat.PARQUET), sink)
    expected = [row for _, instances in hard_rows() for row in instances]
    found = list(iter_instances(part(sink, ANNOTATIONS)))
    assert [(row.image_index, row.instance, row.image, row.custom_id) for row in found] == [
        (row.image_index, row.instance, row.image, row.custom_id) for row in expected
    ]
    assert [(row.mask, row.box, row.area) for row in found] == [
        (row.mask, row.box, row.area) for row in expected
    ]
    assert [(row.score, row.prompt_index, row.category) for row in found] == [
        (row.score, row.prompt_index, row.category) for row in expected
    ]


def test_the_view_chooses_and_names_instances(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.PARQUET, min_score=0.7, classes={"star": "red circle"})
    counts = write_parquet(source, sink)
    found = list(iter_instances(part(sink, ANNOTATIONS)))
    assert {row.category for row in found} == {"red circle"}
    assert min(row.score for row in found) == 0.7
    assert [row.instances for row in iter_images(part(sink, IMAGES))] == [3, 1, 0, 1, 1]
    assert counts == ExportCounts(images=5, instances=len(found))


def test_thresholds_are_those_that_were_taken_so_that_every_row_counts(sink: FolderSink) -> None:
    options = {"min_score": 0.5, "class_scores": {"star": 0.7}}
    write_parquet(hard_source(ExportFormat.PARQUET, **options), sink)
    found = list(iter_instances(part(sink, ANNOTATIONS)))
    assert {(row.category, row.threshold) for row in found} == {("red circle", 0.5), ("star", 0.7)}
    assert list(above_threshold(found)) == found


def test_images_keep_what_the_result_says_of_their_labelling(sink: FolderSink) -> None:
    image, instances = image_rows(0, "a.png", np.eye(4, dtype=np.uint8))
    saturated = replace(image, saturated_prompts=(0, 2))
    write_parquet(source_of([(saturated, instances)], ExportFormat.PARQUET), sink)
    assert list(iter_images(part(sink, IMAGES))) == [saturated]


def test_raw_coordinates_have_the_size_of_the_stored_image(sink: FolderSink) -> None:
    write_parquet(hard_source(ExportFormat.PARQUET, coordinates="raw"), sink)
    turned = list(iter_images(part(sink, IMAGES)))[3]
    assert (turned.width, turned.height, turned.orientation) == (60, 40, 6)
    (row,) = (row for row in iter_instances(part(sink, ANNOTATIONS)) if row.image_index == 4)
    assert row.mask.size == (40, 60)


def test_both_files_say_where_they_come_from(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.PARQUET)
    write_parquet(source, sink)
    for name in (ANNOTATIONS, IMAGES):
        assert read_provenance(part(sink, name)) == Provenance(
            "job_1", "demo-sam3", "0" * 64, "0.1.0"
        )
        metadata = pq.read_schema(sink.folder / name).metadata
        assert ExportInfo.model_validate_json(metadata[b"maskmill.export"]) == source.info


def test_a_pair_of_files_holds_ten_thousand_images(sink: FolderSink) -> None:
    rows = [image_rows(index, f"{index}.png", size=(8, 8)) for index in range(10_001)]
    write_parquet(source_of(rows, ExportFormat.PARQUET), sink)
    assert rows_by_name(sink.folder) == {
        "annotations-00000.parquet": 0,
        "annotations-00001.parquet": 0,
        "images-00000.parquet": 10_000,
        "images-00001.parquet": 1,
    }


def rows_by_name(folder: Path) -> dict[str, int]:
    return {path.name: pq.read_metadata(path).num_rows for path in folder.iterdir()}


def test_a_result_without_images_is_a_pair_of_empty_files(sink: FolderSink) -> None:
    assert write_parquet(source_of([], ExportFormat.PARQUET), sink) == ExportCounts(0, 0)
    assert rows_by_name(sink.folder) == {ANNOTATIONS: 0, IMAGES: 0}
