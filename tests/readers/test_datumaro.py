"""Datumaro reads what is for CVAT, and Pascal VOC."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset
from PIL import Image

from domain.exports import ExportFormat
from domain.formats.cvat import write_cvat
from domain.formats.voc import write_voc
from tests.unit.domain.hard_masks import FolderSink, RowSource, hard_source, named_source, pixels


def draw_images(source: RowSource, folder: Path) -> None:
    for image in source.shown():
        path = folder / image.image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image.width, image.height)).save(path)


def pascal_voc(source: RowSource, sink: FolderSink) -> Dataset:
    write_voc(source, sink)
    with zipfile.ZipFile(sink.folder / "voc-00000.zip") as archive:
        archive.extractall(sink.folder)
    draw_images(source, sink.folder / "JPEGImages")
    return Dataset.import_from(str(sink.folder), "voc_segmentation")


def test_masks_for_cvat_come_back_to_the_pixel(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.CVAT)
    write_cvat(source, sink)
    draw_images(source, sink.folder / "images")
    dataset = Dataset.import_from(str(sink.folder / "annotations-00000.xml"), "cvat")
    labels = [label.name for label in dataset.categories()[AnnotationType.label]]
    assert labels == source.info.classes
    items = {item.id: item for item in dataset}
    for image in source.shown():
        item = items[image.image.rsplit(".", 1)[0]]
        found = [one for one in item.annotations if one.type == AnnotationType.mask]
        for shown, mask in zip(image.instances, found, strict=True):
            assert np.array_equal(mask.image, pixels(shown.mask))
            assert mask.label == shown.class_id


def test_pascal_voc_has_each_object_where_it_is_not_covered(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.VOC)
    dataset = pascal_voc(source, sink)
    items = {item.id: item for item in dataset}
    names = [label.name for label in dataset.categories()[AnnotationType.label]]
    for image in source.shown():
        item = items[image.image.rsplit(".", 1)[0]]
        found = [one for one in item.annotations if one.type == AnnotationType.mask]
        covered = np.zeros((image.height, image.width), bool)
        visible = []
        for shown in image.instances:
            mask = pixels(shown.mask).astype(bool) & ~covered
            covered |= mask
            if mask.any():
                visible.append((mask, source.info.classes[shown.class_id]))
        assert len(found) == len(visible)
        for mask, name in visible:
            (same,) = (one for one in found if np.array_equal(one.image.astype(bool), mask))
            assert names[same.label] == name


def test_every_class_of_pascal_voc_is_read_whatever_its_name(sink: FolderSink) -> None:
    classes = ["a:b", "a#b", "a_b", " a", "a", "#c", "background", "x" * 200, "Ärger 猫"]
    dataset = pascal_voc(named_source(ExportFormat.VOC, classes), sink)
    names = [label.name for label in dataset.categories()[AnnotationType.label]]
    found = ["a_b 2", "a#b", "a_b", "a 2", "a", "_c", "background 2", "x" * 200, "Ärger 猫"]
    assert names == ["background", *found]
    shutil.copytree(sink.folder / "ImageSets/Segmentation", sink.folder / "ImageSets/Main")
    boxes = Dataset.import_from(str(sink.folder), "voc_detection")
    (masked,), (boxed,) = dataset, boxes
    for one in masked.annotations:
        assert one.label == one.get_bbox()[0] + 1  # a class has the pixel of its number
    assert [one.label for one in boxed.annotations] == [*range(1, len(classes) + 1)]
    assert len(masked.annotations) == len(classes)
