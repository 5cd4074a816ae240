"""The images that flow through a workflow: those that came in, crops of them, drawings on them."""

import base64
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from domain.errors import ImageError
from domain.workflows.errors import WorkflowError, image_error
from workers.engine.decoding import decode
from workers.interactive.images import public_cause
from workers.interactive.segmenter import SeenImage, Segmenter

_JPEG_QUALITY = 95
_MAX_JPEG_SIDE = 65500  # of libjpeg


@dataclass(frozen=True, slots=True)
class Origin:
    """The image `id` of `width` x `height`, and where in it something begins."""

    id: str
    x: int
    y: int
    width: int
    height: int

    def as_json(self) -> dict[str, int]:
        return {
            "offset_x": self.x,
            "offset_y": self.y,
            "width": self.width,
            "height": self.height,
        }


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle of `width` x `height` pixels inside an image that came in, the `root`.

    A crop's `parent` has an id of the crop's own, but place and size as in the image that it was
    cut from; so Roboflow's API tells them. Without a crop, parent and root are the same.
    """

    parent: Origin
    root: Origin
    width: int
    height: int

    @classmethod
    def whole(cls, name: str, *, width: int, height: int) -> "Frame":
        origin = Origin(name, 0, 0, width, height)
        return cls(origin, origin, width, height)

    def crop(self, crop_id: str, *, x: int, y: int, width: int, height: int) -> "Frame":
        parent = Origin(crop_id, x, y, self.width, self.height)
        root = replace(self.root, x=self.root.x + x, y=self.root.y + y)
        return Frame(parent, root, width, height)

    @property
    def in_root(self) -> "Frame":
        return Frame.whole(self.root.id, width=self.root.width, height=self.root.height)

    @property
    def is_crop(self) -> bool:
        return self.parent.id != self.root.id

    def origins_as_json(self) -> dict[str, Any]:
        return {
            "parent_origin": self.parent.as_json(),
            "root_parent_id": self.root.id,
            "root_parent_origin": self.root.as_json(),
        }


class Picture(ABC):
    """An image in a workflow. `name` is that of the input it goes back to, for errors. `pixels`
    are HxWx3 uint8, upright, and BGR, as OpenCV wants them; to ask for them or for the `frame`
    raises WorkflowError where a file is no image."""

    name: str
    pixels: np.ndarray
    frame: Frame

    @abstractmethod
    def file(self) -> bytes:
        """With exactly these pixels."""

    @abstractmethod
    def shown_file(self) -> bytes:
        """As clients get it."""

    def seen(self, segmenter: Segmenter, *, owner: str, deadline: float) -> SeenImage:
        """Raises WorkflowError where the file is no image that can be read, and TimeoutError."""
        try:
            return segmenter.see(owner, self.file(), deadline=deadline)
        except ImageError as error:
            raise self.refusal(error) from error

    def refusal(self, error: ImageError) -> WorkflowError:
        return image_error(self.name, public_cause(error, otherwise="Data is not image."))

    def as_json(self) -> dict[str, Any]:
        image = {
            "type": "base64",
            "value": base64.b64encode(self.shown_file()).decode("ascii"),
            "video_metadata": _video_metadata(self.frame.parent.id),
        }
        if self.frame.is_crop:
            image |= {"parent_id": self.frame.parent.id, **self.frame.origins_as_json()}
        return image


class SentPicture(Picture):
    """A file that came in. It is decoded when pixels are asked for, which a workflow without
    drawings and crops never does, and goes out as it came. One thread at a time."""

    def __init__(self, name: str, data: bytes, *, max_pixels: int) -> None:
        self.name = name
        self._data = data
        self._max_pixels = max_pixels
        self._seen: SeenImage | None = None

    @cached_property
    def pixels(self) -> np.ndarray:  # type: ignore[override]
        try:
            decoded = decode(self._data, max_pixels=self._max_pixels)
        except ImageError as error:
            raise self.refusal(error) from error
        return np.ascontiguousarray(decoded.pixels[:, :, ::-1])

    @cached_property
    def frame(self) -> Frame:  # type: ignore[override]
        if self._seen is not None:
            return Frame.whole(self.name, width=self._seen.width, height=self._seen.height)
        height, width = self.pixels.shape[:2]
        return Frame.whole(self.name, width=width, height=height)

    def seen(self, segmenter: Segmenter, *, owner: str, deadline: float) -> SeenImage:
        self._seen = super().seen(segmenter, owner=owner, deadline=deadline)
        return self._seen

    def file(self) -> bytes:
        return self._data

    def shown_file(self) -> bytes:
        return self._data


@dataclass(eq=False)
class MadePicture(Picture):
    """A crop of another picture, or a drawing on it; goes out as JPEG."""

    name: str
    pixels: np.ndarray
    frame: Frame

    def file(self) -> bytes:
        return _encoded(self.pixels, ".bmp")

    def shown_file(self) -> bytes:
        if max(self.pixels.shape) > _MAX_JPEG_SIDE:
            cause = f"A drawing or crop of more than {_MAX_JPEG_SIDE} pixels a side is no JPEG."
            raise image_error(self.name, cause)
        return _encoded(self.pixels, ".jpg", cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)


def _encoded(pixels: np.ndarray, extension: str, *options: int) -> bytes:
    _, encoded = cv2.imencode(extension, pixels, options)
    return encoded.tobytes()


def _video_metadata(image_id: str) -> dict[str, Any]:
    """Clients expect of every image what is known of a video's frame."""
    return {
        "video_identifier": image_id,
        "frame_number": 0,
        "frame_timestamp": datetime.now(UTC).isoformat(),
        "fps": 30.0,
        "measured_fps": None,
        "comes_from_video_file": None,
    }
