import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

import pytest

from domain.export_source import ResultSource, export_info
from domain.exports import ExportFormat, ExportOptions, ShownImage
from domain.results import ImageRow, InstanceRow
from tests.unit.domain.result_rows import Slice, StoredResult, two_slices

OPTIONS = ExportOptions(format=ExportFormat.COCO)

Seen = list[tuple[ImageRow, Sequence[InstanceRow]]]


def remembering(seen: Seen) -> Callable[[ImageRow, Sequence[InstanceRow]], ShownImage]:
    def show(row: ImageRow, instances: Sequence[InstanceRow]) -> ShownImage:
        seen.append((row, instances))
        return ShownImage(row.image_index, row.image, None, row.width, row.height, 1, ())

    return show


def source_of(stored: StoredResult, seen: Seen) -> ResultSource:
    manifest = stored.manifest()

    @contextmanager
    def open_part(key: str) -> Iterator[BinaryIO]:
        yield io.BytesIO(stored.read_part(key))

    return ResultSource(
        info=export_info(manifest, OPTIONS, classes=["red circle", "star"]),
        parts=lambda: manifest.parts,
        open_part=open_part,
        show=remembering(seen),
    )


def test_labelled_images_come_with_their_own_instances_and_failed_ones_do_not_come() -> None:
    seen: Seen = []
    images = list(source_of(StoredResult(two_slices()), seen).shown())
    assert [image.image_index for image in images] == [0, 1, 3]
    assert [[row.image_index for row in rows] for _, rows in seen] == [[0, 0, 0], [], [3]]


def test_it_may_be_read_more_than_once() -> None:
    source = source_of(StoredResult(two_slices()), [])
    assert list(source.shown()) == list(source.shown()) != []


def test_parts_that_do_not_belong_together_are_an_error() -> None:
    stored, other = StoredResult(two_slices()), StoredResult(_swapped(two_slices()))
    first = stored.manifest().parts[0]
    stored.objects[first.annotations.key] = other.objects[first.annotations.key]
    with pytest.raises(ValueError, match="image 0"):
        list(source_of(stored, []).shown())


def _swapped(slices: list[Slice]) -> list[Slice]:
    """The first slice's two images with each other's number."""
    (first, found), (second, nothing) = slices[0]
    return [[(replace(first, index=1), found), (replace(second, index=0), nothing)], slices[1]]


def test_the_info_is_that_of_the_manifest() -> None:
    manifest = StoredResult(two_slices()).manifest()
    info = export_info(manifest, OPTIONS, classes=["thing"], partial=True)
    assert (info.job_id, info.model, info.images) == (manifest.job_id, manifest.model, 3)
    assert (info.categories, info.classes, info.partial) == (manifest.categories, ["thing"], True)
