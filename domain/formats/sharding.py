"""Images a file at a time and a few at a time, never all of them."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from domain.exports import IMAGES_PER_FILE, ShownImage

_IMAGES_AT_ONCE, _INSTANCES_AT_ONCE = 1_000, 10_000


def in_files(images: Iterable[ShownImage]) -> Iterator[Iterator[ShownImage]]:
    """Runs of IMAGES_PER_FILE images, the last one shorter; an empty one where there are no
    images at all. Each is read to its end before the next is asked for."""
    remaining = iter(images)
    first = list(islice(remaining, 1))
    while True:
        yield chain(first, islice(remaining, IMAGES_PER_FILE - 1))
        first = list(islice(remaining, 1))
        if not first:
            return


def files_of(images: int) -> int:
    """How many files `in_files` makes of that many images."""
    return max(1, -(-images // IMAGES_PER_FILE))


def batches(images: Iterable[ShownImage]) -> Iterator[list[ShownImage]]:
    """A row group's worth: so many images, fewer where they have many instances."""
    batch: list[ShownImage] = []
    instances = 0
    for image in images:
        batch.append(image)
        instances += len(image.instances)
        if len(batch) == _IMAGES_AT_ONCE or instances >= _INSTANCES_AT_ONCE:
            yield batch
            batch, instances = [], 0
    if batch:
        yield batch
