"""The preview of a job on hold: what its sample says, as a page and as JSON."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from domain.estimate import Estimate, SampledSlice, estimate
from domain.export_source import ResultSource
from domain.preview import PreviewReport, Reading, preview
from domain.results import ImageRow
from storage.datasets import find_dataset
from storage.jobs import Job
from storage.models import find_model
from storage.slices import timed_slices
from workers.export_sink import StoreSink
from workers.failed_rows import failed_rows
from workers.pictures import image_reader
from workers.planning_sources import describe_source
from workers.reports.preview import FailedImage, draw_pictures, preview_page
from workers.runtime import Runtime


def write_preview(
    runtime: Runtime, job: Job, source: ResultSource, *, sink: StoreSink, step: Callable[[], None]
) -> dict[str, Any]:
    """report.json and report.html; what the former says. `step` is called as the work goes on."""
    failed = list(failed_rows(source))
    report = _report(runtime, job, source, failed, step=step)
    with sink.file("report.json") as out:
        out.write(report.model_dump_json(indent=2).encode() + b"\n")
    read = image_reader(runtime, job)
    pictures = draw_pictures(source, report, lambda image: read(image.image_index))
    with sink.file("report.html") as out:
        page = preview_page(
            report, list(pictures), source=_source(runtime, job), failed=list(map(_shown, failed))
        )
        out.write(page.encode())
    return report.model_dump(mode="json")


def _report(
    runtime: Runtime,
    job: Job,
    source: ResultSource,
    failed: Sequence[ImageRow],
    *,
    step: Callable[[], None],
) -> PreviewReport:
    with runtime.database.begin() as connection:
        model = find_model(connection, job.model)
    reading = Reading()
    if model is not None:
        limits = model.limits
        reading = Reading(model.tokenizer_json, limits.text_tokens, limits.queries)
    return preview(
        source,
        floor=job.floor,
        failed=Counter(str(row.error_code) for row in failed),
        reading=reading,
        estimate=_estimate(runtime, job),
        step=step,
    )


def _source(runtime: Runtime, job: Job) -> str:
    """As its owner knows it."""
    if job.source["type"] != "dataset":
        return describe_source(job)
    with runtime.database.begin() as connection:
        dataset = find_dataset(connection, job.source["id"])
    return dataset.name if dataset else describe_source(job)


def _shown(row: ImageRow) -> FailedImage:
    return FailedImage(row.image, str(row.error_code), row.error_message or "")


def _estimate(runtime: Runtime, job: Job) -> Estimate | None:
    """For as many images as the source had when the sample was drawn."""
    assert job.sample_shards is not None
    with runtime.database.begin() as connection:
        timed = timed_slices(connection, job.id, before_shard=job.sample_shards)
    sampled = [
        SampledSlice(one.images, f"{one.shard_number}-{one.token}", one.opened, one.committed)
        for one in timed
    ]
    return estimate(sampled, images_total=(job.plan_cursor or {})["source_images"])
