"""Small results and truths whose masks are boxes or noise, made for tests of the figures."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from domain.annotations import Rle
from domain.documents import JobPromptDocument
from domain.evaluation.documents import EvaluationOptions, EvaluationReport
from domain.evaluation.evaluate import evaluate
from domain.evaluation.truth import Truth, read_truth
from domain.exports import ExportFormat, ExportInfo, ExportOptions, ShownImage, ShownInstance

FLOOR = 0.1


@dataclass(frozen=True, slots=True)
class Found:
    """An instance of the job."""

    mask: np.ndarray
    score: float
    prompt: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """An annotation of the truth."""

    mask: np.ndarray
    class_id: int = 0
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """An image, in the job and in the truth. All of its masks have its size (height, width)."""

    found: Sequence[Found] = ()
    wanted: Sequence[Wanted] = ()
    size: tuple[int, int] = (20, 30)


@dataclass(frozen=True, slots=True)
class Source:
    """An export source of images in memory."""

    info: ExportInfo
    images: Sequence[ShownImage]

    def shown(self) -> Iterator[ShownImage]:
        return iter(self.images)


def box(x: int, y: int, width: int, height: int, *, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[y : y + height, x : x + width] = 1
    return mask


def rle(mask: np.ndarray) -> Rle:
    return Rle((mask.shape[0], mask.shape[1]), coco_mask.encode(np.asfortranarray(mask))["counts"])


def name_of(number: int) -> str:
    return f"{number:05}.png"


def source_of(cases: Sequence[Case], prompts: Mapping[str, str] | Sequence[str]) -> Source:
    """`prompts` are texts, with their classes if these have other names."""
    texts = list(prompts)
    names = [prompts[text] for text in texts] if isinstance(prompts, Mapping) else texts
    classes = list(dict.fromkeys(names))
    class_ids = [classes.index(name) for name in names]
    images = [_shown(number, case, class_ids) for number, case in enumerate(cases)]
    return Source(_info(dict(zip(texts, names, strict=True)), classes), images)


def _shown(number: int, case: Case, class_ids: Sequence[int]) -> ShownImage:
    """Of a prompt beyond the job's, as an item has, the class is the first."""
    instances = tuple(
        ShownInstance(
            instance=place,
            prompt_index=one.prompt,
            class_id=class_ids[one.prompt] if one.prompt < len(class_ids) else 0,
            score=one.score,
            box=(0.0, 0.0, float(case.size[1]), float(case.size[0])),
            area=int(one.mask.sum()),
            mask=rle(one.mask),
            threshold=FLOOR,
        )
        for place, one in enumerate(case.found)
    )
    height, width = case.size
    return ShownImage(number, name_of(number), None, width, height, 1, instances)


def _info(prompts: Mapping[str, str], classes: list[str]) -> ExportInfo:
    return ExportInfo(
        job_id="job_1",
        created_at=datetime(2026, 5, 4, tzinfo=UTC),
        partial=False,
        model="demo-sam3",
        weights_sha256="0" * 64,
        code_version="0.1.0",
        prompts=[JobPromptDocument(text=t, class_name=n) for t, n in prompts.items()],
        categories=classes,
        classes=classes,
        images=1,
        options=ExportOptions(format=ExportFormat.COCO, min_score=FLOOR),
    )


def truth_document(cases: Sequence[Case], classes: Sequence[str]) -> dict[str, Any]:
    """COCO, as pycocotools writes it. Ids count from 1, in the order of the images."""
    annotations = [
        {
            "id": 0,
            "image_id": number,
            "category_id": one.class_id + 1,
            "segmentation": {"size": list(one.mask.shape), "counts": rle(one.mask).counts.decode()},
            "area": int(one.mask.sum()),
            "bbox": [0, 0, case.size[1], case.size[0]],
            "iscrowd": int(one.crowd),
        }
        for number, case in enumerate(cases, start=1)
        for one in case.wanted
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    return {
        "images": [
            {"id": n, "file_name": name_of(n - 1), "width": case.size[1], "height": case.size[0]}
            for n, case in enumerate(cases, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes, start=1)],
    }


def truth_of(cases: Sequence[Case], classes: Sequence[str]) -> Truth:
    return read(truth_document(cases, classes), classes)


def read(document: object, classes: Sequence[str], **options: Any) -> Truth:
    return read_truth(io.BytesIO(json.dumps(document).encode()), classes=classes, **options)


def evaluated(
    cases: Sequence[Case], prompts: Mapping[str, str] | Sequence[str] = ("star",), **options: Any
) -> EvaluationReport:
    source = source_of(cases, prompts)
    return evaluate(
        source,
        truth_of(cases, source.info.classes),
        options=EvaluationOptions(**options),
        note=lambda: None,
    )
