import json
from xml.etree import ElementTree as Xml

import numpy as np
import pytest

from domain.exports import ExportCounts, ExportFormat, ExportInfo
from domain.formats import sharding
from domain.formats.cvat import write_cvat
from tests.unit.domain.hard_masks import (
    FolderSink,
    hard_rows,
    hard_source,
    image_rows,
    pixels,
    source_of,
)

# pycocotools 2.0.11 has not followed numpy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def read(sink: FolderSink, number: int = 0) -> Xml.Element:
    return Xml.parse(sink.folder / f"annotations-{number:05}.xml").getroot()


def drawn(mask: Xml.Element, *, width: int, height: int) -> np.ndarray:
    """As CVAT has it: runs of zeros and ones by turns, row by row, in the mask's own box."""
    left, top, across, down = (int(mask.attrib[n]) for n in ("left", "top", "width", "height"))
    runs = [int(run) for run in mask.attrib["rle"].split(",")]
    values = np.repeat(np.arange(len(runs)) % 2, runs).reshape(down, across)
    whole = np.zeros((height, width), np.uint8)
    whole[top : top + down, left : left + across] = values
    return whole


def test_masks_come_back_to_the_pixel(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.CVAT)
    write_cvat(source, sink)
    images = read(sink).findall("image")
    for image, entry in zip(source.shown(), images, strict=True):
        assert entry.attrib["name"] == image.image
        for shown, mask in zip(image.instances, entry.findall("mask"), strict=True):
            found = drawn(mask, width=image.width, height=image.height)
            assert np.array_equal(found, pixels(shown.mask))
            assert mask.attrib["label"] == source.info.classes[shown.class_id]
            assert mask.findtext("attribute[@name='score']") == str(shown.score)


def test_images_are_numbered_from_0_with_their_sizes(sink: FolderSink) -> None:
    counts = write_cvat(hard_source(ExportFormat.CVAT, coordinates="raw"), sink)
    images = read(sink).findall("image")
    assert [image.attrib["id"] for image in images] == ["0", "1", "2", "3", "4"]
    assert (images[3].attrib["width"], images[3].attrib["height"]) == ("60", "40")
    assert counts == ExportCounts(images=5, instances=7)


def test_each_file_is_for_a_task_of_its_own(
    sink: FolderSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "IMAGES_PER_FILE", 2)
    write_cvat(hard_source(ExportFormat.CVAT), sink)
    found = [[image.attrib["id"] for image in read(sink, n).findall("image")] for n in range(3)]
    assert found == [["0", "1"], ["0", "1"], ["0"]]


def test_labels_are_declared_with_the_score_that_masks_have(sink: FolderSink) -> None:
    write_cvat(hard_source(ExportFormat.CVAT), sink)
    labels = read(sink).findall("meta/task/labels/label")
    assert [label.findtext("name") for label in labels] == ["red circle", "star"]
    assert [label.findtext("attributes/attribute/name") for label in labels] == ["score", "score"]
    assert labels[0].findtext("color") == "#800000"


def test_the_meta_data_say_where_it_comes_from(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.CVAT)
    write_cvat(source, sink)
    told = read(sink).findtext("meta/maskmill")
    assert told is not None
    assert ExportInfo.model_validate(json.loads(told)) == source.info


def test_what_xml_cannot_say_does_not_break_it(sink: FolderSink) -> None:
    rows = [image_rows(0, 'a<b>&"\x01\x1b\ufffe.png', np.ones((4, 4), np.uint8))]
    write_cvat(source_of(rows, ExportFormat.CVAT, classes={"red circle": "]]>\x02&"}), sink)
    image = read(sink).find("image")
    assert image is not None
    assert image.attrib["name"] == 'a<b>&"\ufffd\ufffd\ufffd.png'
    assert image.find("mask").attrib["label"] == "]]>\ufffd&"  # type: ignore[union-attr]


def test_a_label_is_declared_as_masks_name_it(sink: FolderSink) -> None:
    write_cvat(hard_source(ExportFormat.CVAT, classes={"star": "a\r\n<b>&"}), sink)
    root = Xml.parse(sink.folder / "annotations-00000.xml").getroot()
    declared = {name.text for name in root.iterfind("meta/task/labels/label/name")}
    assert declared == {mask.attrib["label"] for mask in root.iter("mask")}
    assert "a\r\n<b>&" in declared


def test_masks_without_pixels_are_left_out(sink: FolderSink) -> None:
    rows = [image_rows(0, "a.png", np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8))]
    assert write_cvat(source_of(rows, ExportFormat.CVAT), sink) == ExportCounts(1, 1)
    assert len(read(sink).findall("image/mask")) == 1


def test_the_same_export_has_the_same_bytes(sink: FolderSink) -> None:
    again = FolderSink(sink.folder / "again")
    for each in (sink, again):
        write_cvat(source_of(hard_rows(), ExportFormat.CVAT), each)
    name = "annotations-00000.xml"
    assert (sink.folder / name).read_bytes() == (again.folder / name).read_bytes()
