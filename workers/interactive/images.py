"""From what a request says of its image to the image seen, by its file or by its name."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from domain.errors import ImageError, ImageErrorCode
from domain.interactive import ImageAsked
from storage.lane import Shelf
from workers.interactive.segmenter import SeenImage, Segmenter

_NOT_AN_IMAGE = {"base64": "Malformed base64 input image.", "url": "Data is not image."}


class ImageRefused(Exception):
    """To be answered with `status` and a `message`, in the words of the public API."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True)
class Images:
    """`kept` holds the files that callers have named, for whichever worker is asked next."""

    segmenter: Segmenter
    kept: Shelf

    def look_at(
        self, image: ImageAsked, files: Sequence[bytes], *, owner: str, deadline: float
    ) -> SeenImage:
        """Raises ImageRefused, and TimeoutError. A file takes the place of what had its `image_id`
        before."""
        if image.file is None:
            return self._recall(image.image_id or "", owner, deadline)
        data = files[image.file]
        try:
            seen = self.segmenter.see(owner, data, deadline=deadline)
        except ImageError as error:
            raise refusal(error, origin=image.origin) from error
        if image.image_id is not None:
            self.keep(owner, image.image_id, seen, data)
        return seen

    def keep(self, owner: str, image_id: str, seen: SeenImage, data: bytes) -> None:
        name = _name(image_id)
        if self.kept.mark(owner, name) != seen.digest:
            self.kept.put(owner, name, mark=seen.digest, data=data)

    def _recall(self, image_id: str, owner: str, deadline: float) -> SeenImage:
        """This worker may have seen it, else the kept file is looked at again."""
        digest = self.kept.mark(owner, _name(image_id))
        if digest is not None and (seen := self.segmenter.recall(owner, digest)):
            return seen
        kept = self.kept.get(owner, _name(image_id))
        if kept is None:
            raise ImageRefused(
                "No image is kept under this image_id (any more): send the image again.",
                status=404,
            )
        return self.segmenter.see(owner, kept.data, deadline=deadline)


def _name(image_id: str) -> str:
    """Of any length and any characters."""
    return hashlib.sha256(image_id.encode(errors="surrogatepass")).hexdigest()


def refusal(error: ImageError, *, origin: str = "base64") -> ImageRefused:
    cause = public_cause(error, otherwise=_NOT_AN_IMAGE[origin])
    return ImageRefused(f"Could not load input image. Cause: {cause}", status=400)


def public_cause(error: ImageError, *, otherwise: str) -> str:
    """`otherwise` where the file as such is at fault; a limit, or the memory, is named."""
    named = (ImageErrorCode.TOO_LARGE, ImageErrorCode.OUT_OF_MEMORY)
    return error.message if error.code in named else otherwise
