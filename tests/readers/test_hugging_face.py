"""`datasets.load_dataset` of the folder."""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, List, Value, load_dataset
from PIL import Image as PillowImage
from pycocotools import mask as coco_mask

from domain.exports import ExportFormat
from domain.formats.hugging_face import write_hugging_face
from tests.unit.domain.hard_masks import (
    FolderSink,
    RowSource,
    hard_source,
    image_rows,
    pixels,
    source_of,
)

OBJECT = {
    "id": Value("int32"),
    "category": ClassLabel(names=["red circle", 'ärger & "co" \x7f\u2028 🐙']),
    "score": Value("float64"),
    "bbox": List(Value("float32"), length=4),
    "area": Value("int64"),
    "segmentation": {"size": List(Value("int32"), length=2), "counts": Value("string")},
}
FEATURES = Features(
    {
        "image": Value("string"),
        "image_index": Value("int64"),
        "custom_id": Value("string"),
        "width": Value("int32"),
        "height": Value("int32"),
        "objects": List(OBJECT),
    }
)


def hard(**options: Any) -> RowSource:
    names = {"star": OBJECT["category"].names[1]}
    return hard_source(ExportFormat.HUGGING_FACE, classes=names, **options)


def load(source: RowSource, sink: FolderSink) -> Dataset:
    write_hugging_face(source, sink)
    return load_dataset(str(sink.folder), split="train", cache_dir=str(sink.folder / ".cache"))


def test_the_features_are_those_of_the_card(sink: FolderSink) -> None:
    assert load(hard(), sink).features == FEATURES


def test_a_parquet_file_alone_has_the_same_features(sink: FolderSink, tmp_path: Path) -> None:
    write_hugging_face(hard(), sink)
    (path,) = (sink.folder / "data").iterdir()
    assert Dataset.from_parquet(str(path), cache_dir=str(tmp_path)).features == FEATURES


def test_masks_come_back_equal(sink: FolderSink) -> None:
    source = hard()
    for row, image in zip(load(source, sink), source.shown(), strict=True):
        for found, shown in zip(row["objects"], image.instances, strict=True):
            assert np.array_equal(coco_mask.decode(found["segmentation"]), pixels(shown.mask))
            assert (found["score"], found["category"]) == (shown.score, shown.class_id)
            assert tuple(found["bbox"]) == shown.box


def test_images_open_upright_like_their_masks(sink: FolderSink, tmp_path: Path) -> None:
    upright = np.zeros((60, 40), np.uint8)
    upright[5:40, 4:10] = 255
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    stored = PillowImage.fromarray(upright).transpose(PillowImage.Transpose.ROTATE_90)
    stored.save(tmp_path / "turned.png", exif=exif)
    rows = [image_rows(0, "turned.png", upright // 255, orientation=6)]
    source = source_of(rows, ExportFormat.HUGGING_FACE, image_prefix=f"{tmp_path}/")
    (row,) = load(source, sink).cast_column("image", Image())
    mask = coco_mask.decode(row["objects"][0]["segmentation"])
    assert np.array_equal(np.asarray(row["image"]) > 0, mask > 0)


def test_a_dataset_of_several_files_loads(sink: FolderSink) -> None:
    rows = [image_rows(index, f"{index}.png", size=(8, 8)) for index in range(10_001)]
    dataset = load(source_of(rows, ExportFormat.HUGGING_FACE), sink)
    assert list(dataset["image_index"]) == list(range(10_001))


def test_a_dataset_without_images_streams_nothing(sink: FolderSink) -> None:
    """`datasets` 5.2 does not load a split without rows in any other way."""
    write_hugging_face(source_of([], ExportFormat.HUGGING_FACE), sink)
    assert list(load_dataset(str(sink.folder), split="train", streaming=True)) == []


def test_a_dataset_without_classes_loads(sink: FolderSink) -> None:
    nothing = {"red circle": None, "star": None}
    dataset = load(hard_source(ExportFormat.HUGGING_FACE, classes=nothing), sink)
    assert [row["objects"] for row in dataset] == [[]] * 5
