"""Small results with real masks, for tests of what reads and writes them."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from pycocotools import mask as coco_mask

from domain.annotations import ImageOutcome, Instance, Rle, failure
from domain.documents import JobPromptDocument
from domain.errors import ImageErrorCode
from domain.items import Item
from domain.prompts import ConceptPrompt, Prompt, categories
from domain.result_manifest import ResultFile, ResultManifest, ResultPart, ResultTotals
from domain.results import Provenance
from storage import object_keys
from storage.result_files import write_parts

JOB_PROMPTS = (ConceptPrompt("red circle"), ConceptPrompt("star", threshold=0.8))
PROVENANCE = Provenance("job_1", "demo-sam3", "0" * 64, "0.1.0")

Slice = Sequence[tuple[Item, ImageOutcome]]


def disc(width: int, height: int, *, x: float, y: float, radius: float) -> np.ndarray:
    """A mask of shape (height, width), uint8."""
    rows, columns = np.mgrid[:height, :width]
    inside: np.ndarray = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    return inside.astype(np.uint8)


def instance(mask: np.ndarray, *, prompt_index: int, category: str, score: float) -> Instance:
    rle = coco_mask.encode(np.asfortranarray(mask))
    x, y, width, height = map(float, coco_mask.toBbox(rle))
    return Instance(
        prompt_index=prompt_index,
        category=category,
        score=score,
        box=(x, y, width, height),
        area=int(coco_mask.area(rle)),
        mask=Rle((rle["size"][0], rle["size"][1]), rle["counts"]),
    )


def labelled(index: int, *instances: Instance, size: tuple[int, int]) -> tuple[Item, ImageOutcome]:
    width, height = size
    outcome = ImageOutcome(width, height, instances=instances, milliseconds=12.5)
    return Item(index, f"scene-{index}.png", f"s3://bucket/scene-{index}.png"), outcome


def failed(index: int) -> tuple[Item, ImageOutcome]:
    outcome = failure(ImageErrorCode.TRUNCATED, "the file ends early")
    return Item(index, f"bad-{index}.jpg", f"s3://bucket/bad-{index}.jpg", f"own-{index}"), outcome


def two_slices(prompts: Sequence[Prompt] = JOB_PROMPTS) -> list[Slice]:
    """Four images: three instances, none, a failed one, one instance."""
    circle, star = (prompt.category for prompt in prompts)
    red = instance(disc(60, 40, x=20, y=20, radius=10), prompt_index=0, category=circle, score=0.9)
    faint = instance(disc(60, 40, x=40, y=9, radius=4), prompt_index=0, category=circle, score=0.3)
    unsure = instance(disc(60, 40, x=50, y=30, radius=6), prompt_index=1, category=star, score=0.7)
    sure = instance(disc(30, 50, x=15, y=25, radius=9), prompt_index=1, category=star, score=0.85)
    return [
        [labelled(0, red, faint, unsure, size=(60, 40)), labelled(1, size=(60, 40))],
        [failed(2), labelled(3, sure, size=(30, 50))],
    ]


class StoredResult:
    """A job's result in memory, as a result source."""

    def __init__(self, slices: Sequence[Slice]) -> None:
        self.objects: dict[str, bytes] = {}
        self.reads: list[str] = []
        self._slices = slices
        self._parts = [self._store(number, rows) for number, rows in enumerate(slices)]

    def manifest(self) -> ResultManifest:
        outcomes = [outcome for rows in self._slices for _, outcome in rows]
        succeeded = sum(outcome.succeeded for outcome in outcomes)
        return ResultManifest(
            job_id="job_1",
            number=1,
            created_at=datetime(2026, 5, 4, tzinfo=UTC),
            model="demo-sam3",
            weights_sha256="0" * 64,
            code_version="0.1.0",
            prompts=[JobPromptDocument(text=p.text, threshold=p.threshold) for p in JOB_PROMPTS],
            categories=categories(JOB_PROMPTS),
            floor=0.1,
            parts=self._parts,
            totals=ResultTotals(
                images=len(outcomes),
                succeeded=succeeded,
                failed=len(outcomes) - succeeded,
                instances=sum(len(outcome.instances) for outcome in outcomes),
            ),
        )

    def read_part(self, key: str) -> bytes:
        self.reads.append(key)
        return self.objects[key]

    def _store(self, shard_number: int, rows: Slice) -> ResultPart:
        annotations, images = write_parts(rows, job_prompts=JOB_PROMPTS, provenance=PROVENANCE)
        instances = sum(len(outcome.instances) for _, outcome in rows)
        annotations_key = object_keys.annotations_part(shard_number, start=0, token=1)
        images_key = object_keys.images_part(shard_number, start=0, token=1)
        return ResultPart(
            annotations=self._put(annotations_key, annotations, instances),
            images=self._put(images_key, images, len(rows)),
            first_image_index=rows[0][0].index,
            image_count=len(rows),
        )

    def _put(self, key: str, content: bytes, rows: int) -> ResultFile:
        self.objects[key] = content
        digest = hashlib.sha256(content).hexdigest()
        return ResultFile(key=key, sha256=digest, bytes=len(content), rows=rows)
