"""Labels are read here by the rules of ultralytics/data/utils.py, with cv2 as it does."""

import csv
import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from domain.exports import ExportCounts, ExportFormat, ShownImage
from domain.formats.yolo import label_path, write_yolo
from tests.unit.domain.hard_masks import (
    FolderSink,
    Rows,
    RowSource,
    hard_source,
    image_rows,
    pixels,
    source_of,
)
from tests.unit.domain.result_rows import disc

# pycocotools 2.0.11 has not followed numpy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAME = 'a "star": #1 \\ \u00e4 \U0001f419 \x7f\u2028\n'
Label = tuple[int, np.ndarray]  # class, N x 2 of the image's width and height


def export(sink: FolderSink, source: RowSource) -> tuple[ExportCounts, zipfile.ZipFile]:
    counts = write_yolo(source, sink)
    return counts, zipfile.ZipFile(sink.folder / "labels-00000.zip")


def read_labels(text: str) -> list[Label]:
    """As verify_image_label: a line has more than six fields, and no coordinate is above 1."""
    fields = [line.split() for line in text.splitlines()]
    assert all(len(line) > 6 and len(line) % 2 for line in fields)
    labels = [(int(line[0]), np.array(line[1:], np.float32).reshape(-1, 2)) for line in fields]
    assert all((points >= 0).all() and (points <= 1).all() for _, points in labels)
    return labels


def polygon2mask(points: np.ndarray, *, width: int, height: int) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    corners = np.asarray(points * np.array([width, height], np.float32), np.int32)
    return cv2.fillPoly(mask, [corners], color=[1])


def labels_of(archive: zipfile.ZipFile, image: ShownImage) -> list[Label]:
    return read_labels(archive.read(label_path(f"images/train/{image.image}")).decode())


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def ious(source: RowSource, archive: zipfile.ZipFile) -> list[float]:
    found = []
    for image in source.shown():
        labels = labels_of(archive, image)
        assert [number for number, _ in labels] == [i.class_id for i in image.instances]
        for instance, (_, points) in zip(image.instances, labels, strict=True):
            drawn = polygon2mask(points, width=image.width, height=image.height)
            found.append(iou(pixels(instance.mask), drawn))
    return found


@pytest.mark.parametrize("tolerance", [0.0, 0.5, 2.0])
def test_masks_come_back_within_the_loss_that_is_told(sink: FolderSink, tolerance: float) -> None:
    source = hard_source(ExportFormat.YOLO, polygon_tolerance=tolerance)
    counts, archive = export(sink, source)
    found = ious(source, archive)
    assert counts.loss is not None
    assert counts.loss.instances == counts.instances == len(found) == 7
    assert counts.loss.mean_iou == pytest.approx(np.mean(found))
    assert counts.loss.worst_iou == pytest.approx(min(found))


def test_a_simplified_label_has_fewer_of_the_same_corners(tmp_path: Path) -> None:
    masks = [disc(60, 40, x=30, y=20, radius=19), disc(60, 40, x=30, y=20, radius=4)]
    exact, simple = (
        labels_of(export(FolderSink(tmp_path / str(tolerance)), source)[1], next(source.shown()))
        for tolerance in (0.0, 1.0)
        for source in [
            source_of(
                [image_rows(0, "a.png", *masks)], ExportFormat.YOLO, polygon_tolerance=tolerance
            )
        ]
    )
    for (_, many), (_, few) in zip(exact, simple, strict=True):
        assert 2 < len(few) < len(many)
        assert set(map(tuple, few.tolist())) < set(map(tuple, many.tolist()))


def test_parts_are_joined_and_holes_cut_in_and_counted(sink: FolderSink) -> None:
    counts, _ = export(sink, hard_source(ExportFormat.YOLO))
    assert counts.loss is not None
    assert counts.loss.holes == 1
    assert counts.loss.parts == 4


def test_one_part_without_a_hole_comes_back_to_the_pixel(sink: FolderSink) -> None:
    masks = [disc(60, 40, x=20, y=20, radius=r) for r in (0.5, 1, 1.5, 7, 19)]
    rows = [image_rows(0, "a.png", *masks), image_rows(1, "b.png", np.ones((40, 60), np.uint8))]
    source = source_of(rows, ExportFormat.YOLO, min_score=0.1, polygon_tolerance=0)
    _, archive = export(sink, source)
    assert ious(source, archive) == [1.0] * 6


def test_pixels_of_very_wide_images_are_kept_apart(sink: FolderSink) -> None:
    """The reader's numbers have 24 bits, and the file's six digits."""
    columns = [0, 1, 16_383, 33_333, 49_997, 49_998]
    masks = [np.eye(1, 49_999, column, dtype=np.uint8) for column in columns]
    source = source_of([image_rows(0, "a.png", *masks)], ExportFormat.YOLO, min_score=0.1)
    _, archive = export(sink, source)
    assert ious(source, archive) == [1.0] * len(columns)


def test_a_hole_comes_back_to_the_pixel(sink: FolderSink) -> None:
    ring = disc(60, 40, x=25, y=20, radius=15) - disc(60, 40, x=25, y=20, radius=9)
    source = source_of([image_rows(0, "a.png", ring)], ExportFormat.YOLO, polygon_tolerance=0)
    _, archive = export(sink, source)
    assert ious(source, archive) == [1.0]


masks = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1)
)


@settings(max_examples=50, deadline=None)
@given(masks.filter(lambda mask: bool(mask.any())))
def test_every_pixel_of_any_mask_is_drawn(
    tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray
) -> None:
    """What joins parts is drawn as well, so there may be more."""
    source = source_of([image_rows(0, "a.png", mask)], ExportFormat.YOLO, polygon_tolerance=0)
    _, archive = export(FolderSink(tmp_path_factory.mktemp("any")), source)
    ((_, points),) = labels_of(archive, next(source.shown()))
    height, width = mask.shape
    assert (polygon2mask(points, width=width, height=height) >= mask).all()


def test_the_box_that_a_reader_makes_of_a_polygon_is_the_masks(sink: FolderSink) -> None:
    """Also of a single pixel: a box without an area would be dropped in training."""
    source = hard_source(ExportFormat.YOLO, polygon_tolerance=0)
    _, archive = export(sink, source)
    for image in source.shown():
        for instance, (_, points) in zip(image.instances, labels_of(archive, image), strict=True):
            low, high = (f(axis=0) * (image.width, image.height) for f in (points.min, points.max))
            x, y, width, height = instance.box
            assert np.abs(low - (x, y)).max() < 0.1
            assert np.abs(high - (x + width, y + height)).max() < 0.1


def test_an_image_without_instances_has_an_empty_label(sink: FolderSink) -> None:
    _, archive = export(sink, hard_source(ExportFormat.YOLO))
    assert archive.read("labels/train/empty.txt") == b""


def test_masks_without_pixels_are_dropped_and_counted(sink: FolderSink) -> None:
    rows = [image_rows(0, "a.png", np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8))]
    counts, archive = export(sink, source_of(rows, ExportFormat.YOLO))
    assert counts.instances == 1
    assert counts.loss is not None
    assert counts.loss.dropped == 1
    assert len(read_labels(archive.read("labels/train/a.txt").decode())) == 1


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/a/b.c.jpg", "labels/train/a/b.c.txt"),
        ("images/train/site/images/b.jpg", "images/train/site/labels/b.txt"),
    ],
)
def test_labels_lie_where_the_reader_looks_for_them(image: str, label: str) -> None:
    assert label_path(image) == label


def named(*names: str) -> Rows:
    return [image_rows(n, name, np.ones((4, 4), np.uint8)) for n, name in enumerate(names)]


def test_no_label_is_lost_whatever_images_are_called(sink: FolderSink) -> None:
    rows = named("a.jpg", "a.png", "../a.jpg", "s3://b/images/c.jpg", "v1.0/no-suffix", "v1.0/two")
    _, archive = export(sink, source_of(rows, ExportFormat.YOLO))
    labels = sorted(name for name in archive.namelist() if name.endswith(".txt"))
    assert labels == [
        "images/train/b/labels/c.txt",
        "labels/train/_up/a.txt",
        "labels/train/a.txt",
        "labels/train/renamed/1/a.txt",
        "labels/train/v1.0/no-suffix.txt",
        "labels/train/v1.0/two.txt",
    ]
    listed = list(csv.DictReader(io.StringIO(archive.read("maskmill/labels-00000.csv").decode())))
    assert [row["image"] for row in listed] == [image.image for image, _ in rows]
    assert [label_path(row["path"]) in labels for row in listed] == [True] * 6
    assert listed[4]["path"] == "images/train/v1.0/no-suffix.jpg"


def test_the_description_names_classes_by_their_numbers(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.YOLO, classes={"star": NAME})
    export(sink, source)
    description: dict[str, Any] = yaml.safe_load((sink.folder / "data.yaml").read_text())
    assert description["names"] == {0: "red circle", 1: NAME}
    assert (description["train"], description["val"]) == ("images/train", "images/train")


def test_the_same_export_has_the_same_bytes(sink: FolderSink) -> None:
    again = replace(sink, folder=sink.folder / "again")
    for each in (sink, again):
        write_yolo(hard_source(ExportFormat.YOLO), each)
    for name in ("data.yaml", "labels-00000.zip"):
        assert (sink.folder / name).read_bytes() == (again.folder / name).read_bytes()


def test_no_images_make_an_archive_without_labels(sink: FolderSink) -> None:
    counts, archive = export(sink, source_of([], ExportFormat.YOLO))
    assert counts.images == 0
    assert not any(name.endswith(".txt") for name in archive.namelist())
