"""Ultralytics YOLO segmentation (docs.ultralytics.com/datasets/segment): instances a line each.

The reader finds the labels of images/train/a/b.jpg in labels/train/a/b.txt. It holds one polygon
for an instance, cuts its corners off to whole pixels, and draws these with all pixels on the
outline (polygon2mask in ultralytics/data/utils.py). So the rings here keep a little inside the
edges of the mask's pixels: cut off, they run through its outermost pixels; uncut they have its box.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from domain.exports import ExportCounts, ExportInfo, ExportSource, ShownImage, ShownInstance, Sink
from domain.formats.archives import Archive, archive, note_of
from domain.formats.image_paths import ImageList, ImagePaths
from domain.formats.sharding import in_files
from domain.polygons import LossMeter, Outline, one_ring, outlined
from domain.rle import unroll

_IMAGES = "images/train/"
_INSIDE = 0.05  # pixels; 6 digits keep it apart from the edge up to 50,000 pixels
_DIGITS = 6


def write_yolo(source: ExportSource, sink: Sink) -> ExportCounts:
    """data.yaml, and labels-00000.zip for every IMAGES_PER_FILE images. Where the images are to
    lie, if not at their own names, is listed in each archive."""
    writing = _Writing(source.info)
    for number, shard in enumerate(in_files(source.shown())):
        name = f"labels-{number:05}.zip"
        with archive(sink, name, source.info) as opened:
            writing.write(opened, name, shard)
    with sink.file("data.yaml") as out:
        out.write(_description(source.info).encode())
    return ExportCounts(writing.images, writing.instances, writing.loss.loss())


def label_path(image_path: str) -> str:
    """As img2label_paths in ultralytics/data/utils.py: the last `/images/` of the path becomes
    `/labels/`, and the suffix `.txt`."""
    changed = "/labels/".join(f"/{image_path}".rsplit("/images/", 1))
    return changed.rsplit(".", 1)[0].removeprefix("/") + ".txt"


class _Writing:
    def __init__(self, info: ExportInfo) -> None:
        self.images = self.instances = 0
        self.loss = LossMeter()
        self._tolerance = info.options.polygon_tolerance
        self._paths = ImagePaths(lambda path: label_path(_image_path(path)))

    def write(self, opened: Archive, name: str, images: Iterator[ShownImage]) -> None:
        listed = ImageList()
        for image, found in outlined(images, tolerance=self._tolerance, inset=_INSIDE):
            path = _image_path(self._paths.place(image))
            opened.add(label_path(path), "".join(self._lines(image, found)).encode())
            listed.append(image, path)
            self.images += 1
        opened.add(note_of(name, ".csv"), listed.content())

    def _lines(
        self, image: ShownImage, found: Sequence[tuple[ShownInstance, list[Outline]]]
    ) -> Iterator[str]:
        for instance, parts in found:
            numbers = _normalised(one_ring(parts), image) if parts else None
            iou = None if numbers is None else _iou(numbers, instance, image)
            holes = sum(len(part.holes) for part in parts)
            self.loss.add_iou(iou, holes=holes, parts=len(parts) - 1)
            if numbers is not None:
                self.instances += 1
                yield f"{instance.class_id} {_text(numbers)}\n"


def _image_path(path: str) -> str:
    """The reader looks at files with the suffix of an image only."""
    has_suffix = "." in path.rsplit("/", 1)[-1]
    return _IMAGES + (path if has_suffix else f"{path}.jpg")


def _normalised(ring: np.ndarray, image: ShownImage) -> np.ndarray:
    """As it is written: N x 2 of the image's width and height."""
    return np.round(ring / (image.width, image.height), _DIGITS)


def _text(numbers: np.ndarray) -> str:
    """All at once, which takes two thirds of the time."""
    values = numbers.ravel().tolist()
    return " ".join([f"%.{_DIGITS}f"] * len(values)) % tuple(values)


def _iou(numbers: np.ndarray, instance: ShownInstance, image: ShownImage) -> float:
    """Of the mask and what the reader draws, which all is in the mask's box."""
    mask = unroll(instance.mask, instance.box).view(bool)
    drawn = _drawn(numbers, instance, image).view(bool)
    return int(np.count_nonzero(mask & drawn)) / int(np.count_nonzero(mask | drawn))


def _drawn(numbers: np.ndarray, instance: ShownInstance, image: ShownImage) -> np.ndarray:
    """With the reader's kinds of numbers."""
    x, y, width, height = map(int, instance.box)
    scaled = numbers.astype(np.float32) * np.array([image.width, image.height], np.float32)
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [scaled.astype(np.int32) - np.array([x, y], np.int32)], color=[1])
    return canvas


def _description(info: ExportInfo) -> str:
    """Without `path` the reader starts from this file."""
    names = "".join(f"  {n}: {_quoted(name)}\n" for n, name in enumerate(info.classes))
    return f"""# {info.job_id}: {info.model}, maskmill {info.code_version}; more is in maskmill.json
# All images are in one split. Images that you train with cannot show how good the result is:
# move some to images/val, their labels to labels/val, and name that folder here.
train: images/train
val: images/train
names:
{names}"""


def _quoted(text: str) -> str:
    """A string of YAML. JSON's would do, but for its surrogates."""
    letters = (
        letter if letter.isprintable() and letter not in '"\\' else f"\\U{ord(letter):08x}"
        for letter in text
    )
    return f'"{"".join(letters)}"'
