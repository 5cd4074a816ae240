import json
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from domain.exports import ExportCounts, ExportFormat
from domain.formats.hugging_face import write_hugging_face
from tests.unit.domain.hard_masks import FolderSink, hard_source, image_rows, source_of

ONLY_FILE = "data/train-00000-of-00001.parquet"


def card(sink: FolderSink) -> dict[str, Any]:
    _, metadata, _ = (sink.folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    document: dict[str, Any] = yaml.safe_load(metadata)
    return document


def test_an_image_is_a_row_with_its_objects(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.HUGGING_FACE, image_prefix="s3://bucket/")
    assert write_hugging_face(source, sink) == ExportCounts(images=5, instances=7)
    rows = pq.read_table(sink.folder / ONLY_FILE).to_pylist()
    images = list(source.shown())
    assert [row["image"] for row in rows] == ["s3://bucket/" + image.image for image in images]
    assert [(row["width"], row["height"]) for row in rows] == [(i.width, i.height) for i in images]
    for row, image in zip(rows, images, strict=True):
        assert row["objects"] == [
            {
                "id": shown.instance,
                "category": shown.class_id,
                "score": shown.score,
                "bbox": list(shown.box),
                "area": shown.area,
                "segmentation": {
                    "size": list(shown.mask.size),
                    "counts": shown.mask.counts.decode(),
                },
            }
            for shown in image.instances
        ]


def test_the_card_names_the_files_the_split_and_the_features(sink: FolderSink) -> None:
    write_hugging_face(hard_source(ExportFormat.HUGGING_FACE), sink)
    (config,) = card(sink)["configs"]
    assert config["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    (split,) = card(sink)["dataset_info"]["splits"]
    assert (split["name"], split["num_examples"]) == ("train", 5)
    names = [feature["name"] for feature in card(sink)["dataset_info"]["features"]]
    assert names == pq.read_schema(sink.folder / ONLY_FILE).names


def test_the_card_says_where_the_dataset_comes_from(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.HUGGING_FACE)
    write_hugging_face(source, sink)
    text = (sink.folder / "README.md").read_text(encoding="utf-8")
    provenance = text.split("```json\n")[1].split("\n```")[0]
    assert json.loads(provenance) == source.info.model_dump(mode="json")


@pytest.mark.parametrize(
    "name", ['a "quoted" \\', "---\n# no heading", "ärger 🐙", "del\x7f nel\x85 ls\u2028", "true"]
)
def test_class_names_come_back_from_the_card(sink: FolderSink, name: str) -> None:
    source = hard_source(ExportFormat.HUGGING_FACE, classes={"star": name})
    write_hugging_face(source, sink)
    (objects,) = (f for f in card(sink)["dataset_info"]["features"] if f["name"] == "objects")
    (category,) = (f for f in objects["list"]["struct"] if f["name"] == "category")
    assert category["dtype"]["class_label"]["names"] == {"0": "red circle", "1": name}


def test_files_are_numbered_of_how_many_there_are(sink: FolderSink) -> None:
    rows = [image_rows(index, f"{index}.png", size=(8, 8)) for index in range(10_001)]
    write_hugging_face(source_of(rows, ExportFormat.HUGGING_FACE), sink)
    files = sorted((sink.folder / "data").iterdir())
    assert [path.name for path in files] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    assert [pq.read_metadata(path).num_rows for path in files] == [10_000, 1]


def test_a_result_without_images_is_a_dataset_without_rows(sink: FolderSink) -> None:
    counts = write_hugging_face(source_of([], ExportFormat.HUGGING_FACE), sink)
    assert counts == ExportCounts(0, 0)
    assert pq.read_metadata(sink.folder / ONLY_FILE).num_rows == 0
