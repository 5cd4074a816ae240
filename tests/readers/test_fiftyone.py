"""`fiftyone.Dataset.from_dir` of the folder, in a MongoDB of its own."""

import os
import socket
import subprocess
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pymongo
import pytest

from domain.exports import ExportFormat
from domain.formats.fiftyone import write_fiftyone
from tests.unit.domain.hard_masks import FolderSink, RowSource, hard_source, pixels, source_of


def hard(**options: Any) -> RowSource:
    return hard_source(ExportFormat.FIFTYONE, **options)


@pytest.fixture(scope="module")
def fiftyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package, which wants its database as it is imported."""
    folder = tmp_path_factory.mktemp("fiftyone")
    port = _free_port()
    uri = f"mongodb://127.0.0.1:{port}"
    os.environ |= {
        "FIFTYONE_DATABASE_URI": uri,
        "FIFTYONE_DATABASE_VALIDATION": "false",  # of MongoDB 6 it says that it will go one day
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "HOME": str(folder),
    }
    mongod = _start_mongod(folder, port=port)
    try:
        pymongo.MongoClient(uri, serverSelectionTimeoutMS=30_000).admin.command("ping")
        import fiftyone

        yield fiftyone
    finally:
        mongod.terminate()
        mongod.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start_mongod(folder: Path, *, port: int) -> "subprocess.Popen[bytes]":
    data = folder / "data"
    data.mkdir()
    return subprocess.Popen(
        [
            str(distribution("fiftyone-db").locate_file("fiftyone/db/bin/mongod")),
            f"--dbpath={data}",
            f"--port={port}",
            "--bind_ip=127.0.0.1",
            f"--logpath={folder / 'mongod.log'}",
        ],
        env=os.environ | {"LD_LIBRARY_PATH": str(_openssl_1_1(folder / "lib"))},
    )


def _openssl_1_1(folder: Path) -> Path:
    """Under its plain names, out of psycopg2-binary's wheel."""
    folder.mkdir()
    libraries = distribution("psycopg2-binary").locate_file("psycopg2_binary.libs")
    for library in Path(str(libraries)).iterdir():
        (folder / library.name).symlink_to(library)
        if library.name.startswith(("libssl-", "libcrypto-")):
            (folder / f"{library.name.split('-')[0]}.so.1.1").symlink_to(library)
    return folder


def load(fiftyone: Any, source: RowSource, sink: FolderSink, **options: Any) -> Any:
    write_fiftyone(source, sink)
    return fiftyone.Dataset.from_dir(
        dataset_dir=str(sink.folder), dataset_type=fiftyone.types.FiftyOneDataset, **options
    )


def in_image(detection: Any, sample: Any) -> np.ndarray:
    """Its mask in the whole image, placed as the box says."""
    width, height = sample.metadata.width, sample.metadata.height
    x, y = round(detection.bounding_box[0] * width), round(detection.bounding_box[1] * height)
    rows, columns = detection.mask.shape
    assert detection.bounding_box[2:] == pytest.approx([columns / width, rows / height])
    whole = np.zeros((height, width), np.uint8)
    whole[y : y + rows, x : x + columns] = detection.mask
    return whole


def test_masks_come_back_equal(fiftyone: Any, sink: FolderSink) -> None:
    source = hard(coordinates="raw")
    dataset = load(fiftyone, source, sink)
    for sample, image in zip(dataset, source.shown(), strict=True):
        assert (sample.metadata.width, sample.metadata.height) == (image.width, image.height)
        for found, shown in zip(sample.predictions.detections, image.instances, strict=True):
            assert np.array_equal(in_image(found, sample), pixels(shown.mask))
            assert found.label == source.info.classes[shown.class_id]
            assert (found.confidence, found.prompt_index) == (shown.score, shown.prompt_index)


def test_the_dataset_knows_its_fields_and_where_it_comes_from(
    fiftyone: Any, sink: FolderSink
) -> None:
    source = hard(classes={"star": "$a.b"})
    dataset = load(fiftyone, source, sink)
    assert dataset.default_classes == ["red circle", "$a.b"]
    assert source.info.model_validate_json(dataset.info["maskmill"]) == source.info
    written = dataset.get_field_schema(flat=True)
    dataset.add_dynamic_sample_fields()
    assert dataset.get_field_schema(flat=True).keys() == written.keys()
    dataset.save()


def test_the_schema_is_that_of_a_dataset_made_by_fiftyone(fiftyone: Any, sink: FolderSink) -> None:
    detection = fiftyone.Detection(
        label="star", bounding_box=[0, 0, 1, 1], mask=np.ones((2, 2), bool), prompt_index=0
    )
    made = fiftyone.Dataset()
    made.add_sample(
        fiftyone.Sample(
            filepath="x.png",
            metadata=fiftyone.ImageMetadata(width=2, height=2),
            image_index=0,
            custom_id="x",
            predictions=fiftyone.Detections(detections=[detection]),
        )
    )
    made.add_dynamic_sample_fields()
    fields = made.get_field_schema(flat=True)
    dataset = load(fiftyone, hard(), sink)
    assert described(dataset.get_field_schema(flat=True)) == described(fields)


def described(fields: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        name: (
            type(field).__name__,
            type(getattr(field, "field", None)).__name__,
            repr(getattr(field, "document_type", None)),
        )
        for name, field in fields.items()
    }


def test_relative_names_are_found_below_a_folder_and_others_stay(
    fiftyone: Any, sink: FolderSink, tmp_path: Path
) -> None:
    dataset = load(fiftyone, hard(), sink, rel_dir=str(tmp_path / "images"))
    assert dataset.first().filepath == str(tmp_path / "images/scenes/hard.png")
    prefixed = FolderSink(tmp_path / "prefixed")
    dataset = load(fiftyone, hard(image_prefix="/data/"), prefixed)
    assert dataset.first().filepath == "/data/scenes/hard.png"


def test_views_filter_and_order_the_samples(fiftyone: Any, sink: FolderSink) -> None:
    dataset = load(fiftyone, hard(), sink)
    stars = dataset.filter_labels("predictions", fiftyone.ViewField("label") == "star")
    assert stars.count("predictions.detections") == 2
    assert dataset.shuffle(seed=1).count() == 5
    assert dataset.sort_by("id").values("image_index") == [0, 1, 3, 4, 5]


def test_the_same_result_merges_with_itself(fiftyone: Any, sink: FolderSink) -> None:
    dataset = load(fiftyone, hard(min_score=0.8), sink)
    write_fiftyone(hard(), more := FolderSink(sink.folder / "more"))
    dataset.merge_dir(
        dataset_dir=str(more.folder),
        dataset_type=fiftyone.types.FiftyOneDataset,
        rel_dir=str(sink.folder),
    )
    assert dataset.count() == 5
    assert dataset.count("predictions.detections") == 7


def test_a_result_without_images_is_an_empty_dataset(fiftyone: Any, sink: FolderSink) -> None:
    assert len(load(fiftyone, source_of([], ExportFormat.FIFTYONE), sink)) == 0
