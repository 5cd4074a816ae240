"""A small result with masks that formats get wrong, for tests of what writes and reads exports."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pycocotools import mask as coco_mask

from domain.annotations import Rle
from domain.documents import JobPromptDocument
from domain.exports import ExportFormat, ExportInfo, ExportOptions, ShownImage
from domain.results import ImageRow, InstanceRow
from domain.view import View
from tests.unit.domain.result_rows import disc, instance

CATEGORIES = ["red circle", "star"]
Rows = Sequence[tuple[ImageRow, Sequence[InstanceRow]]]


@dataclass(frozen=True, slots=True)
class RowSource:
    """An export source of rows in memory."""

    info: ExportInfo
    rows: Rows

    def shown(self) -> Iterator[ShownImage]:
        view = View(self.info.options, self.info.categories)
        return (view.show(image, instances) for image, instances in self.rows)


@dataclass(frozen=True, slots=True)
class FolderSink:
    folder: Path

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            yield out


def hard_source(export_format: ExportFormat, **options: Any) -> RowSource:
    """All instances of `hard_rows`, unless `options` say else."""
    return source_of(hard_rows(), export_format, **{"min_score": 0.1} | options)


def source_of(rows: Rows, export_format: ExportFormat, **options: Any) -> RowSource:
    asked = ExportOptions(format=export_format, **options)
    info = ExportInfo(
        job_id="job_1",
        created_at=datetime(2026, 5, 4, tzinfo=UTC),
        partial=False,
        model="demo-sam3",
        weights_sha256="0" * 64,
        code_version="0.1.0",
        prompts=[JobPromptDocument(text=name) for name in CATEGORIES],
        categories=CATEGORIES,
        classes=list(View(asked, CATEGORIES).classes),
        images=len(rows),
        options=asked,
    )
    return RowSource(info, rows)


def hard_rows() -> Rows:
    """Five images. The third image of the job failed; the last lies on its side as stored."""
    return [
        image_rows(0, "scenes/hard.png", hole(), two_parts(), one_pixel(), at_the_edges()),
        image_rows(1, 'ärger & "co".png', np.ones((30, 20), np.uint8), custom_id="order 66"),
        image_rows(3, "empty.png", size=(60, 40)),
        image_rows(4, "turned.jpg", corner(), orientation=6),
        image_rows(5, "crossed.jpg", touching_at_a_corner(), orientation=5),
    ]


def named_source(export_format: ExportFormat, names: list[str]) -> RowSource:
    """An image with a mask of one pixel for each class, in a row."""
    pixels = np.eye(len(names), dtype=np.uint8)
    image, found = image_rows(0, "a.png", *(row.reshape(1, -1) for row in pixels))
    named = [
        replace(one, prompt_index=number, category=name, score=0.9)
        for number, (one, name) in enumerate(zip(found, names, strict=True))
    ]
    source = source_of([(image, named)], export_format)
    info = source.info.model_copy(update={"categories": names, "classes": names})
    return RowSource(info, source.rows)


def image_rows(
    index: int,
    name: str,
    *masks: np.ndarray,
    size: tuple[int, int] | None = None,
    custom_id: str | None = None,
    orientation: int = 1,
) -> tuple[ImageRow, list[InstanceRow]]:
    """An image of the masks' size, and its instances: of both classes by turns, from 0.9 down."""
    width, height = size or masks[0].shape[::-1]
    image = ImageRow(
        image_index=index,
        image=name,
        custom_id=custom_id,
        status="succeeded",
        error_code=None,
        error_message=None,
        width=width,
        height=height,
        orientation=orientation,
        instances=len(masks),
        saturated_prompts=(),
        milliseconds=12.5,
    )
    return image, [_instance_row(image, number, mask) for number, mask in enumerate(masks)]


def _instance_row(image: ImageRow, number: int, mask: np.ndarray) -> InstanceRow:
    prompt = number % 2
    found = instance(mask, prompt_index=prompt, category=CATEGORIES[prompt], score=0.0)
    return InstanceRow(
        image_index=image.image_index,
        image=image.image,
        custom_id=image.custom_id,
        instance=number,
        prompt_index=prompt,
        category=CATEGORIES[prompt],
        score=round(0.9 - number / 10, 1),
        threshold=None,
        box=found.box,
        area=found.area,
        mask=found.mask,
    )


def hole() -> np.ndarray:
    """With another part inside the hole."""
    outer, inner = disc(60, 40, x=25, y=20, radius=15), disc(60, 40, x=25, y=20, radius=9)
    return outer - inner + disc(60, 40, x=25, y=20, radius=3)


def two_parts() -> np.ndarray:
    return disc(60, 40, x=12, y=10, radius=6) | disc(60, 40, x=45, y=28, radius=8)


def one_pixel() -> np.ndarray:
    mask = np.zeros((40, 60), np.uint8)
    mask[7, 50] = 1
    return mask


def at_the_edges() -> np.ndarray:
    """Of all four, and both corners of one side."""
    mask = np.zeros((40, 60), np.uint8)
    mask[:3] = mask[:, -2:] = mask[-1, 20:] = mask[10:20, :4] = 1
    return mask


def corner() -> np.ndarray:
    """Which no turn or flip leaves the same."""
    mask = np.zeros((60, 40), np.uint8)
    mask[5:40, 4:10] = mask[34:40, 4:30] = 1
    return mask


def touching_at_a_corner() -> np.ndarray:
    mask = np.zeros((24, 36), np.uint8)
    mask[4:10, 4:14] = mask[10:20, 14:20] = 1
    return mask


def pixels(mask: Rle) -> np.ndarray:
    """As pycocotools decodes it: height x width uint8."""
    decoded: np.ndarray = coco_mask.decode({"size": mask.size, "counts": mask.counts})
    return decoded
