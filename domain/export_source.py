"""A job's result as what an export is made of."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice

from domain.exports import ExportInfo, ExportOptions, ShownImage
from domain.result_manifest import ResultManifest, ResultPart
from domain.results import ImageRow, InstanceRow, Part, iter_images, iter_instances

OpenPart = Callable[[str], AbstractContextManager[Part]]
"""Opens the Parquet file of a key."""

Show = Callable[[ImageRow, Sequence[InstanceRow]], ShownImage]
"""What a view shows of a labelled image: `domain.view.View.show`."""


@dataclass(frozen=True, slots=True)
class ResultSource:
    """An `ExportSource` of the parts of a result, which are opened one pair at a time."""

    info: ExportInfo
    parts: Callable[[], Iterable[ResultPart]]
    open_part: OpenPart
    show: Show

    def shown(self) -> Iterator[ShownImage]:
        for part in self.parts():
            with (
                self.open_part(part.images.key) as images,
                self.open_part(part.annotations.key) as annotations,
            ):
                yield from _shown(iter_images(images), iter_instances(annotations), self.show)


def _shown(
    images: Iterator[ImageRow], instances: Iterator[InstanceRow], show: Show
) -> Iterator[ShownImage]:
    """Both have a slice's rows in image order, and an image's row tells how many are its."""
    for image in images:
        own = list(islice(instances, image.instances))
        if any(row.image_index != image.image_index for row in own):
            raise ValueError(f"the instances of image {image.image_index} are not its own")
        if image.succeeded:
            yield show(image, own)


def export_info(
    manifest: ResultManifest,
    options: ExportOptions,
    *,
    classes: Sequence[str],
    partial: bool = False,
) -> ExportInfo:
    """`manifest` may be without its parts; `classes` are those that the view shows."""
    return ExportInfo(
        job_id=manifest.job_id,
        created_at=manifest.created_at,
        partial=partial,
        model=manifest.model,
        weights_sha256=manifest.weights_sha256,
        code_version=manifest.code_version,
        prompts=manifest.prompts,
        categories=manifest.categories,
        classes=list(classes),
        images=manifest.totals.succeeded,
        options=options,
    )
