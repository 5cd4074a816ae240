"""A result compared with ground truth, as a page and as JSON."""

from collections.abc import Callable
from typing import Any

from domain.errors import InvalidRequest
from domain.evaluation.compared_images import worst_compared
from domain.evaluation.documents import EvaluationOptions
from domain.evaluation.evaluate import evaluate
from domain.evaluation.truth import BadTruth, Truth, read_truth
from domain.export_source import ResultSource
from storage.exports import Export
from storage.jobs import Job
from storage.truths import opened_truth, truth_place, truth_sha256
from workers.export_sink import StoreSink
from workers.failed_rows import failed_rows
from workers.pictures import image_reader
from workers.reports.evaluation import draw_compared, evaluation_page
from workers.runtime import Runtime


def write_evaluation(
    runtime: Runtime,
    job: Job,
    export: Export,
    source: ResultSource,
    *,
    sink: StoreSink,
    note: Callable[[], None],
) -> dict[str, Any]:
    """report.json and report.html; what the former says. Raises `InvalidRequest`
    where the truth cannot be used."""
    asked = dict(export.options)
    truth_of, sha256 = asked.pop("truth"), asked.pop("truth_sha256")
    options = EvaluationOptions.model_validate(asked)
    truth = _truth(runtime, truth_of, sha256, source=source, options=options, note=note)
    report = evaluate(
        source,
        truth,
        options=options,
        note=note,
        failed=(row.image for row in failed_rows(source)),
    )
    with sink.file("report.json") as out:
        out.write(report.model_dump_json(indent=2).encode() + b"\n")
    read = image_reader(runtime, job)
    worst = worst_compared(source, truth, report, note=note)
    pictures = draw_compared(worst, lambda image: read(image.image_index))
    with sink.file("report.html") as out:
        out.write(evaluation_page(report, pictures).encode())
    return report.model_dump(mode="json")


def _truth(
    runtime: Runtime,
    where: dict[str, Any],
    sha256: str,
    *,
    source: ResultSource,
    options: EvaluationOptions,
    note: Callable[[], None],
) -> Truth:
    """What was there when the evaluation was asked for."""
    with runtime.database.begin() as connection:
        place = truth_place(connection, where, own=runtime.objects, sources=runtime.sources)
    with opened_truth(place) as file:
        if truth_sha256(file, note=note) != sha256:
            raise InvalidRequest("truth_changed", "the truth has changed since it was named")
        try:
            return read_truth(file, classes=source.info.classes, mapping=options.mapping, note=note)
        except BadTruth as error:
            raise InvalidRequest("bad_truth", str(error)) from error
