"""An export for CVAT, read from its folder a task's worth at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree as Xml

from domain.exports import ExportInfo
from domain.formats.addresses import WEB, behind
from domain.formats.cvat import SCORE
from domain.formats.fingerprint import fingerprint
from domain.formats.xml_text import speakable
from maskmill.push.server import PushError

IMAGES_PER_TASK = 250


@dataclass(frozen=True, slots=True)
class Mask:
    """`runs` are those of CVAT; `corners` left, top, right and bottom, pixels within the mask."""

    label: str
    score: str
    runs: tuple[int, ...]
    corners: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    url: str
    file_name: str
    masks: tuple[Mask, ...]


@dataclass(frozen=True, slots=True)
class CvatBatch:
    """The images of one task. Its name is the same whenever this export is made."""

    name: str
    frames: list[Frame]


@dataclass(frozen=True, slots=True)
class CvatFolder:
    """`images` counts all of them."""

    paths: tuple[Path, ...]
    info: ExportInfo

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raise `PushError` for a folder with something else in it."""
        paths = tuple(sorted(folder.glob("annotations-*.xml")))
        if not paths:
            raise PushError(f"{folder} holds no export for CVAT: there is no annotations-00000.xml")
        return cls(paths, _info(paths[0]))

    @property
    def images(self) -> int:
        return self.info.images

    @property
    def labels(self) -> list[str]:
        """As XML has them."""
        return list(map(speakable, self.info.classes))

    def batches(self) -> Iterator[CvatBatch]:
        """CVAT knows images by their file names, so that no two in a task may share one."""
        first, frames = 0, list[Frame]()
        names = set[str]()
        for frame in self._frames():
            if len(frames) == IMAGES_PER_TASK or frame.file_name in names:
                yield self._batch(first, frames)
                first, frames, names = first + len(frames), [], set()
            frames.append(frame)
            names.add(frame.file_name)
        if frames:
            yield self._batch(first, frames)

    def _batch(self, first: int, frames: list[Frame]) -> CvatBatch:
        last = first + len(frames) - 1
        return CvatBatch(f"{self.info.job_id} {first}-{last} {fingerprint(self.info)}", frames)

    def _frames(self) -> Iterator[Frame]:
        for path in self.paths:
            for _, element in Xml.iterparse(path):  # noqa: S314 (our own file)
                if element.tag == "image":
                    yield self._frame(element)
                    element.clear()

    def _frame(self, element: Xml.Element) -> Frame:
        url = behind(self.info.options.image_prefix, element.attrib["name"])
        if not url.startswith(WEB):
            raise PushError(
                f"CVAT fetches the images itself, and {url!r} is no web address: give "
                "--image-prefix https://... for where they can be had"
            )
        return Frame(url, _file_name(url), tuple(map(_mask, element.iter("mask"))))


def _file_name(url: str) -> str:
    """What CVAT calls an image that it has fetched: it reads `;` as the end of a path."""
    return unquote(urlparse(url).path).rpartition("/")[2]


def _mask(element: Xml.Element) -> Mask:
    left, top, width, height = (
        int(element.attrib[name]) for name in ("left", "top", "width", "height")
    )
    return Mask(
        label=element.attrib["label"],
        score=element.findtext(f"attribute[@name='{SCORE}']", ""),
        runs=tuple(map(int, element.attrib["rle"].split(","))),
        corners=(left, top, left + width - 1, top + height - 1),
    )


def _info(path: Path) -> ExportInfo:
    for _, element in Xml.iterparse(path):  # noqa: S314 (our own file)
        if element.tag == "maskmill":
            return ExportInfo.model_validate_json(element.text or "")
    raise PushError(f"{path} is no export for CVAT of maskmill")
