"""The files of a job's images, read once more: for the pictures of a report."""

from collections.abc import Callable

import structlog

from domain.errors import ImageError
from storage.jobs import Job
from storage.object_store import StoreError
from storage.pictures import ImageFiles
from workers.runtime import Runtime

log = structlog.get_logger()


def image_reader(runtime: Runtime, job: Job) -> Callable[[int], bytes | None]:
    """Takes the numbers that images have in the job. None where the file is no longer to be had:
    a report does without it."""
    files = ImageFiles(runtime.database, objects=runtime.objects, sources=runtime.sources)

    def read(image_index: int) -> bytes | None:
        try:
            return files.read(job, image_index)
        except (ImageError, StoreError) as error:
            log.info("picture.not_read", image_index=image_index, error=str(error))
            return None

    return read
