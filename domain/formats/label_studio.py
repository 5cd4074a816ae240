"""Label Studio: tasks with predictions (labelstud.io/guide/predictions), and a labelling config."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Literal

import numpy as np

from domain.exports import (
    IMAGES_PER_FILE,
    ExportCounts,
    ExportInfo,
    ExportSource,
    PolygonLoss,
    ShownImage,
    ShownInstance,
    Sink,
)
from domain.formats.addresses import WEB, behind
from domain.formats.brush import pack
from domain.formats.colours import hexadecimal, voc_colour
from domain.formats.fingerprint import fingerprint
from domain.formats.json_list import JsonList
from domain.formats.row_runs import runs_in_image
from domain.formats.xml_text import attribute, speakable
from domain.polygons import LossMeter, Outline, coco_drawn, one_ring, outlined

FULL_AT_BYTES = 64 << 20  # Label Studio takes 250 MB, proxies before it less
TASK_ID = "maskmill_task"  # in a task's data: the same whenever this export is made
FROM_NAME, TO_NAME = "label", "image"  # of the tags in the labelling config

Kind = Literal["brushlabels", "polygonlabels"]
Json = dict[str, Any]
Shape = tuple[ShownInstance, Json]

_ADDRESSES = (*WEB, "/")  # of its own site, such as /data/local-files/?d=
_TAGS: dict[Kind, str] = {"brushlabels": "BrushLabels", "polygonlabels": "PolygonLabels"}


def write_label_studio(source: ExportSource, sink: Sink) -> ExportCounts:
    """label-config.xml, and tasks-00000.json and so on: arrays of tasks, one a line. A file ends
    with IMAGES_PER_FILE tasks, or once it has FULL_AT_BYTES."""
    writing = _Writing(source.info)
    with sink.file("label-config.xml") as out:
        out.write(_label_config(source.info.classes, writing.kind).encode())
    tasks = writing.tasks(source.shown())
    task, number = next(tasks, None), 0
    while task is not None or number == 0:
        with sink.file(f"tasks-{number:05}.json") as out:
            task = _fill(out, task, tasks)
        number += 1
    return writing.counts()


def _fill(out: BinaryIO, task: Json | None, tasks: Iterator[Json]) -> Json | None:
    """Write a file's worth of tasks, the first of which is `task`; return the next one."""
    listed, count = JsonList(out), 0
    while task is not None and count < IMAGES_PER_FILE and out.tell() < FULL_AT_BYTES:
        listed.append(task)
        count += 1
        task = next(tasks, None)
    listed.end()
    return task


class _Writing:
    def __init__(self, info: ExportInfo) -> None:
        self._info = info
        self._fingerprint = fingerprint(info)
        self._labels = list(map(speakable, info.classes))  # as the labelling config has them
        self._images = self._instances = 0
        self._loss = LossMeter()
        self.kind: Kind = "polygonlabels" if info.options.geometry == "polygon" else "brushlabels"

    def counts(self) -> ExportCounts:
        loss: PolygonLoss | None = self._loss.loss() if self.kind == "polygonlabels" else None
        return ExportCounts(self._images, self._instances, loss)

    def tasks(self, images: Iterable[ShownImage]) -> Iterator[Json]:
        """Masks without pixels are left out."""
        drawn = _brushes(images) if self.kind == "brushlabels" else self._polygons(images)
        return (self._task(image, shapes) for image, shapes in drawn)

    def _task(self, image: ShownImage, shapes: Sequence[Shape]) -> Json:
        regions = [self._region(instance, image, shape) for instance, shape in shapes]
        self._images += 1
        self._instances += len(regions)
        info = self._info
        return {
            "data": {
                "image": behind(info.options.image_prefix, image.image, addresses=_ADDRESSES),
                TASK_ID: f"{info.job_id}/{image.image_index}/{self._fingerprint}",
                **({} if image.custom_id is None else {"custom_id": image.custom_id}),
            },
            "predictions": [
                {
                    "model_version": info.model,
                    "score": _mean([region["score"] for region in regions]),
                    "result": regions,
                }
            ],
        }

    def _region(self, instance: ShownInstance, image: ShownImage, shape: Json) -> Json:
        return {
            "id": f"instance-{instance.instance}",
            "type": self.kind,
            "from_name": FROM_NAME,
            "to_name": TO_NAME,
            "original_width": image.width,
            "original_height": image.height,
            "image_rotation": 0,
            "score": instance.score,
            "value": {**shape, self.kind: [self._labels[instance.class_id]]},
        }

    def _polygons(self, images: Iterable[ShownImage]) -> Iterator[tuple[ShownImage, list[Shape]]]:
        tolerance = self._info.options.polygon_tolerance
        for image, found in outlined(images, tolerance=tolerance):
            yield image, [(shown, self._polygon(shown, parts)) for shown, parts in found if parts]

    def _polygon(self, instance: ShownInstance, parts: Sequence[Outline]) -> Json:
        """Percent of the image's width and height."""
        height, width = instance.mask.size
        ring = one_ring(parts)
        holes = sum(len(part.holes) for part in parts)
        drawn = coco_drawn([ring], instance.mask.size)
        self._loss.add(instance.mask, drawn, holes=holes, parts=len(parts) - 1)
        points = np.round(100 * ring / (width, height), 6).tolist()
        return {"points": points, "closed": True}


def _brushes(images: Iterable[ShownImage]) -> Iterator[tuple[ShownImage, list[Shape]]]:
    for image in images:
        yield image, [(shown, _brush(shown)) for shown in image.instances if shown.area]


def _brush(instance: ShownInstance) -> Json:
    packed = pack(runs_in_image(instance.mask, instance.box))
    return {"format": "rle", "rle": list(packed)}


def _mean(scores: Sequence[float]) -> float | None:
    return round(sum(scores) / len(scores), 6) if scores else None


def _label_config(classes: Sequence[str], kind: Kind) -> str:
    tag = _TAGS[kind]
    labels = "".join(
        f"    <Label value={attribute(name)} background={attribute(hexadecimal(voc_colour(n)))}/>\n"
        for n, name in enumerate(classes, start=1)
    )
    return f"""<View>
  <Image name="{TO_NAME}" value="$image" zoom="true" zoomControl="true"/>
  <{tag} name="{FROM_NAME}" toName="{TO_NAME}">
{labels}  </{tag}>
</View>
"""
