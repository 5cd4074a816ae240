import io
import zipfile
from dataclasses import replace
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
from PIL import Image

from domain.exports import ExportCounts, ExportFormat
from domain.formats.colours import voc_colour
from domain.formats.voc import TooManyObjects, pixel_value, write_voc
from tests.unit.domain.hard_masks import (
    FolderSink,
    RowSource,
    hard_source,
    image_rows,
    named_source,
    pixels,
    source_of,
)
from tests.unit.domain.result_rows import disc

# pycocotools 2.0.11 has not followed numpy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def export(sink: FolderSink, source: RowSource) -> zipfile.ZipFile:
    write_voc(source, sink)
    return zipfile.ZipFile(sink.folder / "voc-00000.zip")


def picture(archive: zipfile.ZipFile, name: str) -> Image.Image:
    return Image.open(io.BytesIO(archive.read(name)))


def numbers(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    return np.asarray(picture(archive, name))


def test_pixels_are_numbers_of_objects_and_of_classes(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.VOC)
    archive = export(sink, source)
    for image in source.shown():
        stem = image.image.rsplit(".", 1)[0]
        objects = numbers(archive, f"SegmentationObject/{stem}.png")
        classes = numbers(archive, f"SegmentationClass/{stem}.png")
        assert objects.shape == classes.shape == (image.height, image.width)
        covered = np.zeros_like(objects, bool)
        for number, shown in enumerate(image.instances, start=1):  # the best score first
            mask = pixels(shown.mask).astype(bool)
            assert np.array_equal(objects == number, mask & ~covered)
            assert (classes[mask & ~covered] == shown.class_id + 1).all()
            covered |= mask
        assert not objects[~covered].any()
        assert not classes[~covered].any()


def test_the_better_score_is_on_top_whatever_the_order(sink: FolderSink) -> None:
    worse, better = disc(60, 40, x=20, y=20, radius=10), disc(60, 40, x=30, y=20, radius=10)
    image, (second, first) = image_rows(0, "a.png", better, worse)
    rows = [(image, [first, second])]
    objects = numbers(
        export(sink, source_of(rows, ExportFormat.VOC, min_score=0.1)), "SegmentationObject/a.png"
    )
    assert np.array_equal(objects == 2, better > 0)


def test_pictures_have_the_colours_of_pascal_voc(sink: FolderSink) -> None:
    archive = export(sink, hard_source(ExportFormat.VOC))
    palette = picture(archive, "SegmentationClass/scenes/hard.png").getpalette()
    assert palette is not None
    colours = np.reshape(palette, (-1, 3)).tolist()
    assert len(colours) == 256
    assert colours[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colours[15] == [192, 128, 128]  # persons, in the published label maps
    assert colours[255] == [224, 224, 192]  # void


def test_every_number_has_a_colour_of_its_own() -> None:
    assert len({voc_colour(number) for number in range(70_000)}) == 70_000


def test_annotations_hold_the_boxes_from_pixel_one_on(sink: FolderSink) -> None:
    archive = export(sink, hard_source(ExportFormat.VOC))
    root = Xml.fromstring(archive.read("Annotations/scenes/hard.xml"))
    assert root.findtext("filename") == "hard.png"
    assert root.findtext("folder") == "JPEGImages/scenes"
    assert [root.findtext(f"size/{name}") for name in ("width", "height")] == ["60", "40"]
    one_pixel = root.findall("object")[2]
    sides = [one_pixel.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    assert sides == ["51", "8", "51", "8"]
    assert (one_pixel.findtext("name"), one_pixel.findtext("score")) == ("red circle", "0.7")


def test_annotations_say_where_they_come_from(sink: FolderSink) -> None:
    archive = export(sink, hard_source(ExportFormat.VOC))
    root = Xml.fromstring(archive.read('Annotations/ärger & "co".xml'))
    assert root.findtext("source/database") == "maskmill job_1"
    assert root.findtext("source/annotation") == f"demo-sam3 {'0' * 64} maskmill 0.1.0"
    assert root.findtext("source/image") == 'ärger & "co".png'


def test_the_set_of_images_names_all_of_them(sink: FolderSink) -> None:
    export(sink, hard_source(ExportFormat.VOC))
    names = (sink.folder / "ImageSets/Segmentation/train.txt").read_text().splitlines()
    assert names == ["scenes/hard", 'ärger & "co"', "empty", "turned", "crossed"]


def test_images_that_differ_in_the_suffix_only_have_files_of_their_own(sink: FolderSink) -> None:
    rows = [
        image_rows(n, name, np.ones((4, 4), np.uint8)) for n, name in enumerate(["a.jpg", "a.png"])
    ]
    archive = export(sink, source_of(rows, ExportFormat.VOC))
    found = [name for name in archive.namelist() if name.startswith("Annotations/")]
    assert found == ["Annotations/a.xml", "Annotations/renamed/1/a.xml"]
    assert b"a.png,,JPEGImages/renamed/1/a.png" in archive.read("maskmill/voc-00000.csv")


def test_the_label_map_has_a_line_for_each_pixel_value(sink: FolderSink) -> None:
    export(sink, hard_source(ExportFormat.VOC, classes={"star": "a:star#"}))
    lines = (sink.folder / "labelmap.txt").read_text().splitlines()
    assert lines == [
        "# label:color_rgb:parts:actions",
        "background:0,0,0::",
        "red circle:128,0,0::",
        "a_star#:0,128,0::",
    ]


def test_an_annotation_names_a_class_as_the_label_map_does(sink: FolderSink) -> None:
    archive = export(sink, named_source(ExportFormat.VOC, ["a_b", "a:b"]))
    root = Xml.fromstring(archive.read("Annotations/a.xml"))
    lines = (sink.folder / "labelmap.txt").read_text().splitlines()
    names = [line.split(":")[0] for line in lines]
    assert [one.findtext("name") for one in root.findall("object")] == names[2:] == ["a_b", "a_b 2"]


def columns(count: int) -> list[np.ndarray]:
    """Masks of one pixel each, in one row."""
    return [np.eye(1, count, number, dtype=np.uint8) for number in range(count)]


@pytest.mark.parametrize(("count", "mode"), [(254, "P"), (255, "I;16")])
def test_more_objects_than_a_palette_holds_make_16_bits_of_grey(
    sink: FolderSink, count: int, mode: str
) -> None:
    image, rows = image_rows(0, "a.png", *columns(count))
    visible = [(image, [replace(row, score=0.5) for row in rows])]
    source = source_of(visible, ExportFormat.VOC, min_score=0)
    archive = export(sink, source)
    objects = picture(archive, "SegmentationObject/a.png")
    assert objects.mode == mode
    assert 255 not in np.asarray(objects)  # void
    assert len(set(np.asarray(objects).ravel().tolist())) == count
    assert picture(archive, "SegmentationClass/a.png").mode == "P"


def test_no_object_is_void_and_none_goes_beyond_16_bits() -> None:
    assert [pixel_value(number) for number in (0, 253, 254, 65_533)] == [1, 254, 256, 65_535]
    with pytest.raises(TooManyObjects, match="65,535 objects or classes"):
        pixel_value(65_534)


def test_the_same_export_has_the_same_bytes(sink: FolderSink) -> None:
    again = FolderSink(sink.folder / "again")
    for each in (sink, again):
        counts = write_voc(hard_source(ExportFormat.VOC), each)
        assert counts == ExportCounts(images=5, instances=7)
    for name in ("voc-00000.zip", "labelmap.txt", "ImageSets/Segmentation/train.txt"):
        assert (sink.folder / name).read_bytes() == (again.folder / name).read_bytes()
