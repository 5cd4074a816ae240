"""`tests/readers/test_fiftyone.py` has what FiftyOne itself makes of it."""

import io
import json
import zlib
from base64 import b64decode
from typing import Any

import numpy as np
import pytest

from domain.exports import ExportCounts, ExportFormat, ExportInfo
from domain.formats.fiftyone import write_fiftyone
from tests.unit.domain.hard_masks import FolderSink, RowSource, hard_source, pixels, source_of


def hard(**options: Any) -> RowSource:
    return hard_source(ExportFormat.FIFTYONE, **options)


def samples_of(source: RowSource, sink: FolderSink) -> list[dict[str, Any]]:
    write_fiftyone(source, sink)
    document = json.loads((sink.folder / "samples.json").read_bytes())
    assert list(document) == ["samples"]  # FiftyOne reads it as a stream, and no other key
    samples: list[dict[str, Any]] = document["samples"]
    return samples


def deserialized(mask: str) -> np.ndarray:
    array: np.ndarray = np.load(io.BytesIO(zlib.decompress(b64decode(mask))))
    return array


def test_masks_are_numpy_arrays_of_the_box(sink: FolderSink) -> None:
    source = hard()
    for sample, image in zip(samples_of(source, sink), source.shown(), strict=True):
        for found, shown in zip(sample["predictions"]["detections"], image.instances, strict=True):
            mask = np.load(
                io.BytesIO(zlib.decompress(b64decode(found["mask"]["$binary"]["base64"])))
            )
            x, y, width, height = map(int, shown.box)
            assert mask.dtype == bool
            assert np.array_equal(mask, pixels(shown.mask)[y : y + height, x : x + width])
            assert found["bounding_box"] == pytest.approx(
                [x / image.width, y / image.height, width / image.width, height / image.height]
            )


def test_labels_and_scores_are_those_of_the_view(sink: FolderSink) -> None:
    source = hard(min_score=0.8, classes={"star": "asterisk"})
    first, *_ = samples_of(source, sink)
    found = [(d["label"], d["confidence"]) for d in first["predictions"]["detections"]]
    assert found == [("red circle", 0.9), ("asterisk", 0.8)]


def test_ids_are_unique_and_in_image_order(sink: FolderSink) -> None:
    samples = samples_of(hard(), sink)
    ids = [sample["_id"]["$oid"] for sample in samples]
    inner = [d["_id"]["$oid"] for s in samples for d in s["predictions"]["detections"]]
    assert ids == sorted(ids)
    assert len({*ids, *inner}) == len(ids) + len(inner) == 12
    assert {len(id_) for id_ in (*ids, *inner)} == {24}


def test_an_instance_keeps_its_id_where_others_are_not_shown(sink: FolderSink) -> None:
    source = hard(class_scores={"red circle": 0.95})
    first, *_ = samples_of(source, sink)
    alone = first["predictions"]["detections"][0]["_id"]
    everything, *_ = samples_of(hard(), FolderSink(sink.folder / "all"))
    assert alone == everything["predictions"]["detections"][1]["_id"]


def test_image_names_have_the_prefix(sink: FolderSink) -> None:
    names = [sample["filepath"] for sample in samples_of(hard(image_prefix="/data/"), sink)]
    assert names[:2] == ["/data/scenes/hard.png", '/data/ärger & "co".png']


def test_the_metadata_says_where_the_dataset_comes_from(sink: FolderSink) -> None:
    source = hard(classes={"star": "$a.b"})
    write_fiftyone(source, sink)
    metadata = json.loads((sink.folder / "metadata.json").read_bytes())
    assert ExportInfo.model_validate_json(metadata["info"]["maskmill"]) == source.info
    assert metadata["default_classes"] == ["red circle", "$a.b"]


def test_a_result_without_images_is_a_dataset_without_samples(sink: FolderSink) -> None:
    source = source_of([], ExportFormat.FIFTYONE)
    assert samples_of(source, sink) == []
    assert write_fiftyone(source, FolderSink(sink.folder / "again")) == ExportCounts(0, 0)
