import json
from typing import Any
from xml.etree import ElementTree as Xml

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.exports import ExportCounts, ExportFormat
from domain.formats import label_studio
from domain.formats.brush import pack
from domain.formats.label_studio import write_label_studio
from tests.unit.domain.hard_masks import FolderSink, hard_source, image_rows, pixels, source_of

# pycocotools 2.0.11 has not followed numpy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Task = dict[str, Any]


def tasks(sink: FolderSink, number: int = 0) -> list[Task]:
    read: list[Task] = json.loads((sink.folder / f"tasks-{number:05}.json").read_bytes())
    return read


def unpack(packed: bytes) -> np.ndarray:
    """The decoder that thi.ng/rle-pack publishes, bit by bit."""
    bits = "".join(f"{byte:08b}" for byte in packed)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    length, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < length:
        repeats = take(1)
        count = take(sizes[take(2)]) + 1
        out += [take(word)] * count if repeats else [take(word) for _ in range(count)]
    return np.array(out, np.uint8)


def painted(region: dict[str, Any]) -> np.ndarray:
    channels = unpack(bytes(region["value"]["rle"]))
    rgba = channels.reshape(region["original_height"], region["original_width"], 4)
    assert (rgba == rgba[:, :, :1]).all()
    return rgba[:, :, 3]


def test_brush_masks_come_back_to_the_pixel(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.LABEL_STUDIO)
    counts = write_label_studio(source, sink)
    assert counts == ExportCounts(images=5, instances=7)
    for image, task in zip(source.shown(), tasks(sink), strict=True):
        (prediction,) = task["predictions"]
        for shown, region in zip(image.instances, prediction["result"], strict=True):
            assert np.array_equal(painted(region), 255 * pixels(shown.mask))
            assert region["value"]["brushlabels"] == [source.info.classes[shown.class_id]]
            assert region["score"] == shown.score


runs = st.lists(st.one_of(st.integers(1, 70), st.integers(16_380, 16_390)), min_size=1, max_size=12)


@given(runs, st.booleans())
def test_runs_of_any_length_are_packed_as_the_published_decoder_reads_them(
    lengths: list[int], begins_with_mask: bool
) -> None:
    """Lengths of 65,536 bytes are 16,384 pixels: the longest that fit."""
    counts = np.array([0, *lengths] if begins_with_mask else lengths)
    values = np.where(np.arange(len(counts)) % 2, 255, 0)
    assert np.array_equal(unpack(pack(counts)), np.repeat(values, 4 * counts))


@pytest.mark.parametrize("tolerance", [0, 0.5])
def test_polygons_are_in_percent_and_come_back_within_the_loss(
    sink: FolderSink, tolerance: float
) -> None:
    source = hard_source(ExportFormat.LABEL_STUDIO, geometry="polygon", polygon_tolerance=tolerance)
    counts = write_label_studio(source, sink)
    assert counts.loss is not None
    assert counts.loss.instances == 7
    assert counts.loss.worst_iou >= (1 if tolerance == 0 else 0.7)
    for image, task in zip(source.shown(), tasks(sink), strict=True):
        for shown, region in zip(image.instances, task["predictions"][0]["result"], strict=True):
            points = np.array(region["value"]["points"]) / 100 * (image.width, image.height)
            # By the even-odd rule, at the centres of pixels, in sixteenths of them
            canvas = np.zeros((16 * image.height, 16 * image.width), np.uint8)
            cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], color=[1])
            found, mask = canvas[8::16, 8::16], pixels(shown.mask)
            assert (found & mask).sum() / (found | mask).sum() > (0.9 if tolerance == 0 else 0.6)


def test_images_are_found_by_their_prefix_and_name(sink: FolderSink) -> None:
    write_label_studio(
        hard_source(ExportFormat.LABEL_STUDIO, image_prefix="https://example.com/"), sink
    )
    data = [task["data"] for task in tasks(sink)]
    assert data[0]["image"] == "https://example.com/scenes/hard.png"
    assert data[1]["image"] == "https://example.com/%C3%A4rger%20%26%20%22co%22.png"
    assert data[1]["custom_id"] == "order 66"


@pytest.mark.parametrize(
    ("prefix", "image"),
    [
        ("/data/local-files/?d=photos/", "%C3%A4rger%20%26%20%22co%22.png"),
        ("s3://bucket/", 'ärger & "co".png'),
        ("", 'ärger & "co".png'),
    ],
)
def test_names_are_quoted_in_addresses_only(sink: FolderSink, prefix: str, image: str) -> None:
    write_label_studio(hard_source(ExportFormat.LABEL_STUDIO, image_prefix=prefix), sink)
    assert tasks(sink)[1]["data"]["image"] == prefix + image


def test_predictions_name_the_model_and_have_the_mean_score(sink: FolderSink) -> None:
    write_label_studio(hard_source(ExportFormat.LABEL_STUDIO), sink)
    predictions = [task["predictions"][0] for task in tasks(sink)]
    assert {prediction["model_version"] for prediction in predictions} == {"demo-sam3"}
    assert [prediction["score"] for prediction in predictions] == [0.75, 0.9, None, 0.9, 0.9]


def test_a_task_has_one_id_in_the_same_export_and_another_in_another(sink: FolderSink) -> None:
    def ids(folder: str, **options: Any) -> list[str]:
        into = FolderSink(sink.folder / folder)
        write_label_studio(hard_source(ExportFormat.LABEL_STUDIO, **options), into)
        return [task["data"]["maskmill_task"] for task in tasks(into)]

    first = ids("first")
    assert len(set(first)) == 5
    assert first == ids("again")
    assert not set(first) & set(ids("other", min_score=0.2))


def test_files_end_when_they_have_enough_tasks_or_bytes(
    sink: FolderSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_studio, "IMAGES_PER_FILE", 3)
    monkeypatch.setattr(label_studio, "FULL_AT_BYTES", 2_000)
    rows = [image_rows(n, f"{n}.png", size=(4, 4)) for n in range(5)]
    large = image_rows(5, "large.png", *[np.eye(60, dtype=np.uint8)] * 4)
    write_label_studio(
        source_of([*rows, large, *rows[:1]], ExportFormat.LABEL_STUDIO, min_score=0.1), sink
    )
    counts = [len(tasks(sink, number)) for number in range(3)]
    assert counts == [3, 3, 1]
    assert not (sink.folder / "tasks-00003.json").exists()


def test_no_images_make_an_empty_list(sink: FolderSink) -> None:
    write_label_studio(source_of([], ExportFormat.LABEL_STUDIO), sink)
    assert tasks(sink) == []


@pytest.mark.parametrize(
    ("geometry", "tag"), [("rle", "BrushLabels"), ("polygon", "PolygonLabels")]
)
def test_the_labelling_config_has_the_tags_that_the_tasks_name(
    sink: FolderSink, geometry: str, tag: str
) -> None:
    source = hard_source(
        ExportFormat.LABEL_STUDIO, geometry=geometry, classes={"star": '<"star">\x01'}
    )
    write_label_studio(source, sink)
    view = Xml.parse(sink.folder / "label-config.xml").getroot()
    labels = view.find(tag)
    assert labels is not None
    region = tasks(sink)[0]["predictions"][0]["result"][0]
    assert (labels.get("name"), labels.get("toName")) == (region["from_name"], region["to_name"])
    names = [label.get("value") for label in labels]
    assert names == ["red circle", '<"star">\ufffd']
    regions = tasks(sink)[0]["predictions"][0]["result"]
    assert {region["value"][region["type"]][0] for region in regions} == set(names)
