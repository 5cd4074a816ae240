"""Datumaro reads what is for CVAT, and Pascal VOC."""

import zipfile
from pathlib import Path

import numpy as np
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset
from PIL import Image

from domain.exports import ExportFormat
from domain.formats.cvat import write_cvat
from domain.formats.voc import write_voc
from tests.unit.domain.hard_masks import FolderSink, RowSource, hard_source, pixels


def draw_images(source: RowSource, folder: Path) -> None:
    for image in source.shown():
        path = folder / image.image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image.width, image.height)).save(path)


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
    write_voc(source, sink)
    with zipfile.ZipFile(sink.folder / "voc-00000.zip") as archive:
        archive.extractall(sink.folder)
    draw_images(source, sink.folder / "JPEGImages")
    dataset = Dataset.import_from(str(sink.folder), "voc_segmentation")
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
