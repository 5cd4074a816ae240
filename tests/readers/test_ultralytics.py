"""Ultralytics' own data set and rasteriser."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset, polygon2mask

from domain.exports import ExportCounts, ExportFormat
from domain.formats.yolo import write_yolo
from tests.unit.domain.hard_masks import (
    FolderSink,
    RowSource,
    hard_source,
    image_rows,
    pixels,
    source_of,
)

NAME = 'a "star": #1 \\ \u00e4 \U0001f419'


def unpacked(source: RowSource, sink: FolderSink) -> ExportCounts:
    """The export, with images where its list says."""
    counts = write_yolo(source, sink)
    with zipfile.ZipFile(sink.folder / "labels-00000.zip") as archive:
        archive.extractall(sink.folder)
    for row, image in zip(listed(sink.folder), source.shown(), strict=True):
        path = sink.folder / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image.width, image.height)).save(path)
    return counts


def listed(folder: Path) -> list[dict[str, str]]:
    text = (folder / "maskmill/labels-00000.csv").read_text()
    return list(csv.DictReader(io.StringIO(text)))


def read(folder: Path) -> dict[str, dict]:
    """The labels that the data set has, by the paths of their images."""
    data = check_det_dataset(str(folder / "data.yaml"), autodownload=False)
    dataset = YOLODataset(
        img_path=data["train"], data=data, task="segment", augment=False, imgsz=64, cache=False
    )
    return {
        Path(label["im_file"]).relative_to(folder).as_posix(): label
        for label in dataset.get_labels()
    }


def drawn(segment: np.ndarray, *, width: int, height: int) -> np.ndarray:
    scaled = segment * np.array([width, height], np.float32)
    return polygon2mask((height, width), [scaled.reshape(-1)], color=1, downsample_ratio=1)


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_masks_come_back_within_the_loss_that_is_told(sink: FolderSink, tolerance: float) -> None:
    source = hard_source(ExportFormat.YOLO, polygon_tolerance=tolerance)
    counts = unpacked(source, sink)
    labels = read(sink.folder)
    ious = []
    for row, image in zip(listed(sink.folder), source.shown(), strict=True):
        label = labels[row["path"]]
        assert label["shape"] == (image.height, image.width)
        assert label["cls"].ravel().tolist() == [i.class_id for i in image.instances]
        for shown, segment in zip(image.instances, label["segments"], strict=True):
            mask = pixels(shown.mask)
            found = drawn(segment, width=image.width, height=image.height)
            ious.append((mask & found).sum() / (mask | found).sum())
    assert counts.loss is not None
    assert (counts.loss.instances, counts.loss.worst_iou) == (len(ious), pytest.approx(min(ious)))
    assert counts.loss.mean_iou == pytest.approx(np.mean(ious))


def test_boxes_are_those_of_the_masks(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.YOLO, polygon_tolerance=0)
    unpacked(source, sink)
    labels = read(sink.folder)
    for row, image in zip(listed(sink.folder), source.shown(), strict=True):
        for shown, (x, y, width, height) in zip(
            image.instances, labels[row["path"]]["bboxes"], strict=True
        ):
            found = np.array([x - width / 2, y - height / 2, width, height])
            pixels_found = found * ([image.width, image.height] * 2)
            assert np.abs(pixels_found - shown.box).max() <= 0.1 + 1e-4


def test_labels_are_found_whatever_images_are_called(sink: FolderSink) -> None:
    names = ["a.jpg", "a.png", "../up.jpg", "s3://b/images/c.jpg", "v1.0/no-suffix", "ä b.JPG"]
    masks = [np.ones((16, 16 + n), np.uint8) for n in range(len(names))]
    rows = [image_rows(n, name, masks[n]) for n, name in enumerate(names)]
    source = source_of(rows, ExportFormat.YOLO, min_score=0.1)
    unpacked(source, sink)
    labels = read(sink.folder)
    assert len(labels) == len(names)
    for row, image in zip(listed(sink.folder), source.shown(), strict=True):
        assert labels[row["path"]]["shape"] == (image.height, image.width)
        assert len(labels[row["path"]]["segments"]) == 1


def test_classes_have_their_names(sink: FolderSink) -> None:
    unpacked(hard_source(ExportFormat.YOLO, classes={"star": NAME}), sink)
    data = check_det_dataset(str(sink.folder / "data.yaml"), autodownload=False)
    assert data["names"] == {0: "red circle", 1: NAME}
