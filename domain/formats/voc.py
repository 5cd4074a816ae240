"""Pascal VOC with segmentation masks (host.robots.ox.ac.uk/pascal/VOC/voc2012, VOCdevkit).

A pixel of SegmentationObject is the number of its object in Annotations, from 1 on, one of
SegmentationClass that of its class in labelmap.txt; 0 is background. 255 is void and stands for no
object and no class, so that the numbers from 255 on are one higher. Where they do not fit into 8
bits, the PNG file has 16 bits of grey in place of a palette.
"""

import io
import zlib
from collections.abc import Sequence
from xml.etree import ElementTree as Xml

import numpy as np
from PIL import Image

from domain.exports import ExportCounts, ExportInfo, ExportSource, ShownImage, ShownInstance, Sink
from domain.formats.archives import Archive, archive, note_of
from domain.formats.colours import voc_colour
from domain.formats.image_paths import ImageList, ImagePaths
from domain.formats.sharding import in_files
from domain.formats.voc_names import BACKGROUND, voc_names
from domain.formats.xml_text import speakable
from domain.rle import unroll

VOID = 255
_LARGEST = 65_535
_PALETTE = bytes(part for number in range(256) for part in voc_colour(number))


class TooManyObjects(ValueError):
    """More than a PNG file can tell apart."""


def write_voc(source: ExportSource, sink: Sink) -> ExportCounts:
    """voc-00000.zip for every IMAGES_PER_FILE images, ImageSets/Segmentation/train.txt and
    labelmap.txt. Where the images are to lie is listed in each archive.

    Of masks that overlap, the one with the better score is on top; one that is covered wholly has
    no pixels, but its entry in Annotations. Raise `TooManyObjects` for more than 65,534 of them in
    an image, or as many classes.
    """
    pixel_value(len(source.info.classes) - 1)
    info = source.info.model_copy(update={"classes": voc_names(source.info.classes)})
    paths = ImagePaths(_stem)
    images = instances = 0
    with sink.file("ImageSets/Segmentation/train.txt") as names:
        for number, shard in enumerate(in_files(source.shown())):
            name = f"voc-{number:05}.zip"
            with archive(sink, name, source.info) as opened:
                listed = ImageList()
                for image in shard:
                    path = paths.place(image)
                    _write_image(opened, image, path, info)
                    names.write(f"{_stem(path)}\n".encode())
                    listed.append(image, f"JPEGImages/{path}")
                    images += 1
                    instances += len(image.instances)
                opened.add(note_of(name, ".csv"), listed.content())
    with sink.file("labelmap.txt") as out:
        out.write(_label_map(info.classes).encode())
    return ExportCounts(images, instances)


def pixel_value(number: int) -> int:
    """Of the object, or the class, that has this number from 0 on."""
    value = number + 1 if number + 1 < VOID else number + 2
    if value > _LARGEST:
        raise TooManyObjects(f"a PNG file cannot hold {number + 1:,} objects or classes")
    return value


def _stem(path: str) -> str:
    """Without the suffix of its last part."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rsplit(".", 1)[0] or name)


def _write_image(opened: Archive, image: ShownImage, path: str, info: ExportInfo) -> None:
    stem = _stem(path)
    objects = [pixel_value(number) for number in range(len(image.instances))]
    classes = [pixel_value(instance.class_id) for instance in image.instances]
    canvases = _canvas(image, largest=len(objects)), _canvas(image, largest=len(info.classes))
    _paint(image, list(zip(canvases, (objects, classes), strict=True)))
    opened.add(f"Annotations/{stem}.xml", _annotation(image, path, info))
    for kind, canvas in zip(("Object", "Class"), canvases, strict=True):
        opened.add(f"Segmentation{kind}/{stem}.png", _png(canvas), compressed=False)


def _canvas(image: ShownImage, *, largest: int) -> np.ndarray:
    """`largest` is the count of objects, or classes, that there may be: all pictures of classes in
    an export are of one kind."""
    kind = np.uint8 if largest < VOID else np.uint16
    return np.zeros((image.height, image.width), kind)


def _paint(image: ShownImage, pictures: Sequence[tuple[np.ndarray, Sequence[int]]]) -> None:
    """Each canvas with its values, best score on top; of equal ones the earlier is the better."""
    shown = image.instances
    for number in sorted(range(len(shown)), key=lambda n: (shown[n].score, -n)):
        x, y, width, height = map(int, shown[number].box)
        mask = unroll(shown[number].mask, shown[number].box).view(bool)
        for canvas, values in pictures:
            np.copyto(canvas[y : y + height, x : x + width], values[number], where=mask)


def _png(pixels: np.ndarray) -> bytes:
    """The two of an image take most of its time, 2 ms a megapixel each. zlib's other
    strategies take as long or twice as long, for more bytes."""
    picture = Image.fromarray(pixels)
    if pixels.dtype == np.uint8:
        picture.putpalette(_PALETTE)
    out = io.BytesIO()
    picture.save(out, "PNG", compress_type=zlib.Z_RLE)
    return out.getvalue()


def _annotation(image: ShownImage, path: str, info: ExportInfo) -> bytes:
    root = Xml.Element("annotation")
    folder = path.rpartition("/")[0]
    _add(root, "folder", f"JPEGImages/{folder}".rstrip("/"))
    _add(root, "filename", path.rpartition("/")[2])
    source = Xml.SubElement(root, "source")
    _add(source, "database", f"maskmill {info.job_id}")
    _add(source, "annotation", f"{info.model} {info.weights_sha256} maskmill {info.code_version}")
    _add(source, "image", image.image)
    size = Xml.SubElement(root, "size")
    for name, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        _add(size, name, str(value))
    _add(root, "segmented", "1")
    for instance in image.instances:
        root.append(_object(instance, info.classes[instance.class_id]))
    Xml.indent(root)
    return Xml.tostring(root) + b"\n"


def _object(instance: ShownInstance, name: str) -> Xml.Element:
    """VOC counts pixels from 1, and the last ones are within the box."""
    x, y, width, height = map(int, instance.box)
    sides = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
    entry = Xml.Element("object")
    _add(entry, "name", name)
    _add(entry, "pose", "Unspecified")
    for flag in ("truncated", "occluded", "difficult"):
        _add(entry, flag, "0")
    box = Xml.SubElement(entry, "bndbox")
    for side, value in sides.items():
        _add(box, side, str(value))
    _add(entry, "score", str(instance.score))
    return entry


def _add(parent: Xml.Element, name: str, value: str) -> None:
    Xml.SubElement(parent, name).text = speakable(value)


def _label_map(classes: Sequence[str]) -> str:
    """As CVAT and Datumaro have it: a line a class, in the order of their pixel values."""
    lines = ["# label:color_rgb:parts:actions", f"{BACKGROUND}:0,0,0::"]
    for number, name in enumerate(classes):
        colour = ",".join(map(str, voc_colour(pixel_value(number))))
        lines.append(f"{name}:{colour}::")
    return "\n".join(lines) + "\n"
