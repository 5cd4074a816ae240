"""Supervision's data sets."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import supervision
from PIL import Image

from domain.exports import ExportFormat
from domain.formats.voc import write_voc
from domain.formats.yolo import write_yolo
from tests.unit.domain.hard_masks import (
    FolderSink,
    RowSource,
    image_rows,
    pixels,
    source_of,
)
from tests.unit.domain.result_rows import disc

NAMES = ["one.jpg", "two.jpg"]


def ring() -> np.ndarray:
    return disc(60, 40, x=20, y=20, radius=15) - disc(60, 40, x=20, y=20, radius=9)


def source(export_format: ExportFormat) -> RowSource:
    rows = [
        image_rows(0, NAMES[0], ring(), disc(60, 40, x=50, y=9, radius=6)),
        image_rows(1, NAMES[1], disc(60, 40, x=30, y=20, radius=30)),
    ]
    return source_of(rows, export_format, min_score=0.1, polygon_tolerance=0)


def unpack(folder: Path, name: str, images: Path) -> None:
    with zipfile.ZipFile(folder / name) as archive:
        archive.extractall(folder)
    images.mkdir(parents=True)
    for each in NAMES:
        Image.new("RGB", (60, 40)).save(images / each)


def test_yolo_masks_come_back_to_one_pixel(sink: FolderSink) -> None:
    """It rounds corners, where Ultralytics cuts them off: masks grow to the right and downwards."""
    write_yolo(source(ExportFormat.YOLO), sink)
    images = sink.folder / "images/train"
    unpack(sink.folder, "labels-00000.zip", images)
    dataset = supervision.DetectionDataset.from_yolo(
        images_directory_path=str(images),
        annotations_directory_path=str(sink.folder / "labels/train"),
        data_yaml_path=str(sink.folder / "data.yaml"),
        force_masks=True,
    )
    assert dataset.classes == ["red circle", "star"]
    found = {Path(path).name: detections for path, _, detections in dataset}
    for image in source(ExportFormat.YOLO).shown():
        detections = found[image.image]
        assert detections.class_id.tolist() == [shown.class_id for shown in image.instances]
        for shown, mask in zip(image.instances, detections.mask, strict=True):
            expected = pixels(shown.mask).astype(bool)
            assert not (expected & ~mask).any()
            assert not (mask & (cv2.dilate(expected.view(np.uint8), np.ones((3, 3))) == 0)).any()


def test_pascal_voc_boxes_come_back(sink: FolderSink) -> None:
    write_voc(source(ExportFormat.VOC), sink)
    images = sink.folder / "JPEGImages"
    unpack(sink.folder, "voc-00000.zip", images)
    dataset = supervision.DetectionDataset.from_pascal_voc(
        images_directory_path=str(images),
        annotations_directory_path=str(sink.folder / "Annotations"),
    )
    found = {Path(path).name: detections for path, _, detections in dataset}
    for image in source(ExportFormat.VOC).shown():
        boxes = [shown.box for shown in image.instances]
        expected = [(x, y, x + width, y + height) for x, y, width, height in boxes]
        assert np.array_equal(found[image.image].xyxy, expected)
