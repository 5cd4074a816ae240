"""What holds for every format."""

import hashlib
import io
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from domain.exports import ExportFormat, ExportInfo, ShownImage
from domain.formats import WRITERS
from tests.unit.domain.hard_masks import FolderSink, hard_source, image_rows, source_of

SPOT = np.eye(8, dtype=np.uint8)

every_format = pytest.mark.parametrize("export_format", WRITERS)

# These take an image at a time, so that few of them show what is kept. To pack masks takes long,
# and ten times as long while memory is traced.
IMAGE_BY_IMAGE = (ExportFormat.LABEL_STUDIO, ExportFormat.CVAT, ExportFormat.FIFTYONE)

# An archive keeps its table of contents until it ends: benchmarks/export.py measures these.
IN_ARCHIVES = (ExportFormat.YOLO, ExportFormat.VOC)


class Nowhere(io.BytesIO):
    """Seekable, and remembers nothing but where it is."""

    def write(self, content: object) -> int:
        return len(memoryview(content).cast("B"))  # type: ignore[arg-type]


class NoSink:
    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        yield Nowhere()


@dataclass(frozen=True, slots=True)
class Repeated:
    """One image, over and over."""

    info: ExportInfo
    image: ShownImage
    count: int

    def shown(self) -> Iterator[ShownImage]:
        return (replace(self.image, image_index=index) for index in range(self.count))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@every_format
@pytest.mark.parametrize("geometry", ["rle", "polygon"])
def test_the_same_export_twice_gives_the_same_bytes(
    tmp_path: Path, export_format: ExportFormat, geometry: str
) -> None:
    for name in ("one", "other"):
        source = hard_source(export_format, geometry=geometry)
        WRITERS[export_format](source, FolderSink(tmp_path / name))
    assert digests(tmp_path / "one") == digests(tmp_path / "other") != {}


@every_format
def test_counts_are_of_the_images_and_instances_shown(
    sink: FolderSink, export_format: ExportFormat
) -> None:
    source = hard_source(export_format, min_score=0.7)
    counts = WRITERS[export_format](source, sink)
    assert (counts.images, counts.instances) == (5, 6)


@pytest.mark.parametrize("export_format", [one for one in WRITERS if one not in IN_ARCHIVES])
def test_memory_stays_flat_for_any_number_of_images(export_format: ExportFormat) -> None:
    source = source_of([image_rows(0, "spot.png", *[SPOT] * 8)], export_format, min_score=0)
    (image,) = source.shown()
    few, many = (10, 60) if export_format in IMAGE_BY_IMAGE else (1_500, 5_000)

    def peak(count: int) -> int:
        tracemalloc.start()
        info = source.info.model_copy(update={"images": count})
        WRITERS[export_format](Repeated(info, image, count), NoSink())
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # what is loaded once
    assert peak(many) < peak(few) + (many - few) * 1_200  # 8 instances are 4,500 bytes
