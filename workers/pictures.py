"""The files of a job's images, read once more: for the pictures of a report."""

from collections.abc import Sequence

import structlog

from domain.documents import ItemDocument
from domain.errors import ImageError
from domain.items import Item
from storage import object_keys
from storage.datasets import local_root
from storage.jobs import Job
from storage.object_store import StoreError
from storage.shards import shard_of_image
from workers.runtime import Runtime

log = structlog.get_logger()


class Pictures:
    """By the numbers that images have in the job."""

    def __init__(self, runtime: Runtime, job: Job) -> None:
        self._runtime = runtime
        self._job = job
        with runtime.database.begin() as connection:
            self._root = local_root(connection, job.source)
        self._listed: tuple[str, Sequence[Item]] = ("", ())

    def read(self, image_index: int) -> bytes | None:
        """None where the file is no longer to be had: a report does without it."""
        try:
            item = self._item(image_index)
            if item is None:
                return None
            return self._runtime.sources.read_image(
                item.uri, own=self._runtime.objects, local_root=self._root
            )
        except (ImageError, StoreError) as error:
            log.info("picture.not_read", image_index=image_index, error=str(error))
            return None

    def _item(self, image_index: int) -> Item | None:
        with self._runtime.database.begin() as connection:
            shard = shard_of_image(connection, self._job.id, image_index)
        if shard is None:
            return None
        key = object_keys.shard_list(self._job.id, shard.number, token=shard.list_token)
        if self._listed[0] != key:
            lines = self._runtime.objects.get(key).splitlines()
            self._listed = key, [ItemDocument.model_validate_json(line).to_item() for line in lines]
        return self._listed[1][image_index - shard.first_image_index]
