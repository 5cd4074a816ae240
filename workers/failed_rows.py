"""Images that have no result, out of a result."""

from collections.abc import Iterator

from domain.export_source import ResultSource
from domain.results import ImageRow, iter_images


def failed_rows(source: ResultSource) -> Iterator[ImageRow]:
    """In image order, from the beginning."""
    for part in source.parts():
        with source.open_part(part.images.key) as images, source.open_part(part.annotations.key):
            yield from (row for row in iter_images(images) if not row.succeeded)
