"""Rectangles as instances, for hand-worked cases, and a source that shows them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from pycocotools import mask as coco_mask

from domain.annotations import Rle
from domain.documents import JobPromptDocument
from domain.exports import ExportFormat, ExportInfo, ExportOptions, ShownImage, ShownInstance
from domain.prompts import categories

SIDE = 100  # pixels of an image


def rectangle(
    prompt: int, box: tuple[int, int, int, int], score: float = 0.9, *, side: int = SIDE
) -> ShownInstance:
    """`box` is (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    pixels = np.zeros((side, side), np.uint8)
    pixels[y0:y1, x0:x1] = 1
    return shown(prompt, pixels, score)


def shown(prompt: int, pixels: np.ndarray, score: float = 0.9) -> ShownInstance:
    rle = coco_mask.encode(np.asfortranarray(pixels))
    rows, columns = np.nonzero(pixels)
    x, y = float(columns.min()), float(rows.min())
    return ShownInstance(
        instance=0,
        prompt_index=prompt,
        class_id=prompt,
        score=score,
        box=(x, y, float(columns.max()) - x + 1, float(rows.max()) - y + 1),
        area=int(pixels.sum()),
        mask=Rle((pixels.shape[0], pixels.shape[1]), rle["counts"]),
        threshold=0.0,  # of a view that shows all
    )


@dataclass(frozen=True)
class ShownSource:
    """An `ExportSource` of one list of instances an image; `saturated` are prompts by image."""

    prompts: Sequence[JobPromptDocument]
    images: Sequence[Sequence[ShownInstance]]
    side: int = SIDE
    saturated: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def info(self) -> ExportInfo:
        names = categories([prompt.to_prompt() for prompt in self.prompts])
        return ExportInfo(
            job_id="job_1",
            created_at=datetime(2026, 3, 4, 12, tzinfo=UTC),
            partial=True,
            model="demo-sam3",
            weights_sha256="0" * 64,
            code_version="0.1.0",
            prompts=list(self.prompts),
            categories=names,
            classes=names,
            images=len(self.images),
            options=ExportOptions(format=ExportFormat.COCO, min_score=0),
        )

    def shown(self) -> Iterator[ShownImage]:
        for index, instances in enumerate(self.images):
            yield ShownImage(
                *(index, f"scene-{index}.png", None, self.side, self.side, 1, tuple(instances)),
                saturated_prompts=self.saturated.get(index, ()),
            )
