"""The files of jobs' images, read once more: for people to look at."""

from functools import lru_cache

from domain.documents import ItemDocument
from domain.fetching import Fetch
from storage import object_keys
from storage.database import Database
from storage.datasets import local_root
from storage.jobs import Job
from storage.object_store import ObjectStore
from storage.shards import shard_of_image
from storage.sources import Sources

_LISTS = 64  # of 256 images at most; neighbours are asked for together


class ImageFiles:
    """By the numbers that images have in a job: nobody names an address. Thread safe."""

    def __init__(self, database: Database, *, objects: ObjectStore, sources: Sources) -> None:
        self._database = database
        self._objects = objects
        self._sources = sources
        self._addresses = lru_cache(_LISTS)(self._listed_addresses)

    def read(self, job: Job, image_index: int, *, fetch: Fetch | None = None) -> bytes | None:
        """None for an image that the job does not have, or no longer: its lists are removed some
        time after its end. Raises `ImageError`, and `StoreError` for the service's own store."""
        with self._database.begin() as connection:
            shard = shard_of_image(connection, job.id, image_index)
            root = local_root(connection, job.source)
        if shard is None:
            return None
        key = object_keys.shard_list(job.id, shard.number, token=shard.list_token)
        uri = self._addresses(key)[image_index - shard.first_image_index]
        return self._sources.read_image(uri, own=self._objects, local_root=root, fetch=fetch)

    def _listed_addresses(self, key: str) -> tuple[str, ...]:
        lines = self._objects.get(key).splitlines()
        return tuple(ItemDocument.model_validate_json(line).uri for line in lines)
