"""Pictures of a job's images: fetched again, made small, turned upright, drawn anew as JPEG.

Decoding is work for the CPU, and files come from anywhere: few are in hand at a time, formats are
named one by one, and what a file claims to need is asked before it is decoded.
"""

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass

from api.conditional import etag_of
from api.images.memory import Room, RoomyFetch
from api.problems import ApiProblem
from api.turns import Turns
from domain.errors import ImageError, ImageErrorCode
from domain.overlays import claim_of, read_picture, to_jpeg
from storage.jobs import Job
from storage.object_store import ObjectNotFound
from storage.pictures import ImageFiles
from storage.settings import Settings

_THREADS = 4  # fetching takes longer than decoding
_PLACES, _PLACES_PER_KEY = 96, 64  # a screen full of small ones comes at once
_SECONDS = 30.0
_FILE_BYTES = 2**29
_DECODING_BYTES = 3 * 2**29  # 100 million pixels of most formats
_STATUS = {
    ImageErrorCode.NOT_FOUND: 404,
    ImageErrorCode.FORBIDDEN: 502,
    ImageErrorCode.TIMEOUT: 502,
    ImageErrorCode.FETCH_ERROR: 502,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """`jpeg` is None where the caller has it already."""

    etag: str
    jpeg: bytes | None


class Pictures:
    """Of one event loop."""

    def __init__(self, files: ImageFiles, settings: Settings) -> None:
        self._files = files
        self._max_bytes = settings.max_image_bytes
        self._file_room, self._decoding_room = Room(_FILE_BYTES), Room(_DECODING_BYTES)
        self._turns = Turns(
            "pictures",
            threads=_THREADS,
            places=_PLACES,
            per_key=_PLACES_PER_KEY,
            seconds=_SECONDS,
        )

    def close(self) -> None:
        self._turns.close()

    async def picture(
        self, job: Job, image_index: int, *, longest_side: int, known: Collection[str]
    ) -> Picture:
        """Not larger than the image. `known` are ETags. Raises problems with the codes of images'
        errors: 404 where the file is gone, 415 where it cannot be shown, 502 where it cannot be
        fetched."""
        return await self._turns.run(
            job.owner_key_id, self._made, job, image_index, longest_side=longest_side, known=known
        )

    def _made(
        self, job: Job, image_index: int, *, longest_side: int, known: Collection[str]
    ) -> Picture:
        with ExitStack() as holding:
            fetch = RoomyFetch(self._file_room, holding, unknown=self._max_bytes)
            try:
                content = self._files.read(job, image_index, fetch=fetch)
            except ObjectNotFound:  # of the list: `read` has another word for files
                content = None
            except ImageError as error:
                raise _refused(error.code, error.message) from error
            if content is None:
                detail = "The job has no such image, or its list of images was removed."
                raise ApiProblem(404, "image_not_found", detail)
            etag = etag_of(content, str(longest_side))
            if etag in known:
                return Picture(etag, None)
            return Picture(etag, self._drawn(content, longest_side=longest_side))

    def _drawn(self, content: bytes, *, longest_side: int) -> bytes:
        claim = claim_of(content)
        if claim is None:
            raise _refused(ImageErrorCode.UNSUPPORTED, "This is no image that is shown here.")
        if claim.decoding_bytes > _DECODING_BYTES:
            raise _refused(ImageErrorCode.TOO_LARGE, "The image has too many pixels to be shown.")
        with self._decoding_room.taken(claim.decoding_bytes):
            side = min(longest_side, claim.longest_side)
            picture = read_picture(content, longest_side=side)
            if picture is None:
                raise _refused(ImageErrorCode.DECODE_ERROR, "The file is damaged.")
            return to_jpeg(picture)


def _refused(code: ImageErrorCode, message: str) -> ApiProblem:
    return ApiProblem(_STATUS.get(code, 415), str(code), message)
