"""The preview of a job on hold: what its sample says, as a page and as JSON."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from domain.estimate import Estimate, SampledSlice, estimate
from domain.export_source import ResultSource
from domain.exports import ExportInfo, ShownImage
from domain.preview import PreviewReport, Reading, preview
from storage.jobs import Job
from storage.models import find_model
from storage.slices import timed_slices
from workers.export_sink import StoreSink
from workers.failed_rows import failed_rows

# PAGE from workers.reports.preview import preview_page
from workers.runtime import Runtime


@dataclass(frozen=True, slots=True)
class _Noted:
    """An `ExportSource` that says of each image that it goes on, and counts for each prompt the
    images in which it may have found more than the network can say."""

    source: ResultSource
    note: Callable[[], None]
    saturated: Counter[int] = field(default_factory=Counter)

    @property
    def info(self) -> ExportInfo:
        return self.source.info

    def shown(self) -> Iterator[ShownImage]:
        for image in self.source.shown():
            self.note()
            self.saturated.update(image.saturated_prompts)
            yield image


def write_preview(
    runtime: Runtime, job: Job, source: ResultSource, *, sink: StoreSink, note: Callable[[], None]
) -> dict[str, Any]:
    """report.json and report.html; what the former says."""
    report = _report(runtime, job, _Noted(source, note))
    with sink.file("report.json") as out:
        out.write(report.model_dump_json(indent=2).encode() + b"\n")
    return report.model_dump(mode="json")


def _report(runtime: Runtime, job: Job, source: _Noted) -> PreviewReport:
    with runtime.database.begin() as connection:
        model = find_model(connection, job.model)
    reading = Reading()
    if model is not None:
        limits = model.limits
        reading = Reading(model.tokenizer_json, limits.text_tokens, limits.queries)
    failed = Counter(str(row.error_code) for row in failed_rows(source.source))
    return preview(
        source,
        floor=job.floor,
        failed=failed,
        saturated=source.saturated,
        reading=reading,
        estimate=_estimate(runtime, job),
    )


def _estimate(runtime: Runtime, job: Job) -> Estimate | None:
    """Where the source has as many images as when the sample was drawn."""
    assert job.sample_shards is not None
    with runtime.database.begin() as connection:
        timed = timed_slices(connection, job.id, before_shard=job.sample_shards)
    sampled = [
        SampledSlice(one.images, f"{one.shard_number}-{one.token}", one.opened, one.committed)
        for one in timed
    ]
    return estimate(sampled, images_total=(job.plan_cursor or {})["source_images"])
