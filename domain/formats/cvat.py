"""CVAT for images 1.1: XML with masks (docs.cvat.ai/docs/other/xml_format)."""

from collections.abc import Iterator

from domain.exports import (
    ExportCounts,
    ExportInfo,
    ExportSource,
    ShownImage,
    ShownInstance,
    Sink,
)
from domain.formats.colours import hexadecimal, voc_colour
from domain.formats.row_runs import runs_in_box
from domain.formats.sharding import in_files
from domain.formats.xml_text import attribute, text

SCORE = "score"  # the attribute of each label that has it


def write_cvat(source: ExportSource, sink: Sink) -> ExportCounts:
    """annotations-00000.xml and so on, each of IMAGES_PER_FILE images and for a task of its own:
    in each the images are numbered from 0. Masks without pixels are left out."""
    images = instances = 0
    for number, shard in enumerate(in_files(source.shown())):
        with sink.file(f"annotations-{number:05}.xml") as out:
            out.write(_head(source.info).encode())
            for frame, image in enumerate(shard):
                out.write("".join(_image(frame, image, source.info.classes)).encode())
                images += 1
                instances += sum(shown.area > 0 for shown in image.instances)
            out.write(b"</annotations>\n")
    return ExportCounts(images, instances)


def _head(info: ExportInfo) -> str:
    labels = "".join(_label(name, number) for number, name in enumerate(info.classes, start=1))
    return f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
<version>1.1</version>
<meta>
<task>
<name>{text(info.job_id)}</name>
<mode>annotation</mode>
<labels>
{labels}</labels>
</task>
<dumped>{info.created_at.isoformat()}</dumped>
<maskmill>{text(info.model_dump_json())}</maskmill>
</meta>
"""


def _label(name: str, number: int) -> str:
    score = f"<attribute><name>{SCORE}</name><mutable>False</mutable><input_type>text</input_type>"
    score += "<default_value></default_value><values></values></attribute>"
    return (
        f"<label><name>{text(name)}</name><color>{hexadecimal(voc_colour(number))}</color>"
        f"<type>any</type><attributes>{score}</attributes></label>\n"
    )


def _image(frame: int, image: ShownImage, classes: list[str]) -> Iterator[str]:
    yield (
        f'<image id="{frame}" name={attribute(image.image)} '
        f'width="{image.width}" height="{image.height}">\n'
    )
    for instance in image.instances:
        if instance.area:
            yield _mask(instance, classes[instance.class_id])
    yield "</image>\n"


def _mask(instance: ShownInstance, label: str) -> str:
    left, top, width, height = map(int, instance.box)
    runs = ", ".join(map(str, runs_in_box(instance.mask, instance.box).tolist()))
    return (
        f'<mask label={attribute(label)} source="auto" occluded="0" rle="{runs}" '
        f'left="{left}" top="{top}" width="{width}" height="{height}" z_order="0">'
        f'<attribute name="{SCORE}">{instance.score}</attribute></mask>\n'
    )
