"""Supervision's data sets. Its polygons end on the pixels that they name, as Ultralytics' do."""

import zipfile
from pathlib import Path

import numpy as np
import supervision
from PIL import Image

from domain.exports import ExportFormat
from domain.formats.voc import write_voc
from domain.formats.yolo import write_yolo
from tests.unit.domain.hard_masks import (
    FolderSink,
    RowSource,
    at_the_edges,
    hole,
    image_rows,
    pixels,
    source_of,
    two_parts,
)

NAMES = ["one.jpg", "two.jpg"]


def source(export_format: ExportFormat) -> RowSource:
    rows = [
        image_rows(0, NAMES[0], hole(), at_the_edges()),
        image_rows(1, NAMES[1], two_parts()),
    ]
    return source_of(rows, export_format, min_score=0.1, polygon_tolerance=0)


def unpack(folder: Path, name: str, images: Path) -> None:
    with zipfile.ZipFile(folder / name) as archive:
        archive.extractall(folder)
    images.mkdir(parents=True)
    for each in NAMES:
        Image.new("RGB", (60, 40)).save(images / each)


def test_yolo_masks_come_back_within_the_loss_that_is_told(sink: FolderSink) -> None:
    counts = write_yolo(source(ExportFormat.YOLO), sink)
    images = sink.folder / "images/train"
    unpack(sink.folder, "labels-00000.zip", images)
    dataset = supervision.DetectionDataset.from_yolo(
        images_directory_path=str(images),
        annotations_directory_path=str(sink.folder / "labels/train"),
        data_yaml_path=str(sink.folder / "data.yaml"),
        force_masks=True,
    )
    assert dataset.classes == ["red circle", "star"]
    assert counts.loss is not None
    found = {Path(path).name: detections for path, _, detections in dataset}
    for image in source(ExportFormat.YOLO).shown():
        detections = found[image.image]
        assert detections.class_id.tolist() == [shown.class_id for shown in image.instances]
        for shown, mask in zip(image.instances, detections.mask, strict=True):
            expected = pixels(shown.mask).astype(bool)
            assert (mask & expected).sum() / (mask | expected).sum() >= counts.loss.worst_iou - 0.05


def test_pascal_voc_boxes_come_back(sink: FolderSink) -> None:
    """It takes 1 from all sides, so that the last pixel is within the box."""
    write_voc(source(ExportFormat.VOC), sink)
    images = sink.folder / "JPEGImages"
    unpack(sink.folder, "voc-00000.zip", images)
    dataset = supervision.DetectionDataset.from_pascal_voc(
        images_directory_path=str(images),
        annotations_directory_path=str(sink.folder / "Annotations"),
    )
    found = {Path(path).name: detections for path, _, detections in dataset}
    for image in source(ExportFormat.VOC).shown():
        expected = [
            (x, y, x + width - 1, y + height - 1)
            for x, y, width, height in (shown.box for shown in image.instances)
        ]
        assert np.array_equal(found[image.image].xyxy, expected)
