"""`maskmill evaluate`"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.printable import printable
from maskmill.cli.options import AsJson, JobId
from maskmill.cli.view_options import Partial, renamed

if TYPE_CHECKING:
    from domain.evaluation.documents import EvaluationReport, Listed, ThresholdFigures
    from maskmill.answers import Evaluation
    from maskmill.client import Client


def evaluate(
    job_id: JobId,
    *,
    truth: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="COCO instances: a file here (uploaded), or s3://bucket/file.json."
        ),
    ],
    report: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for the page. [default: evaluation-JOB]"),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="CATEGORY=CLASS", help="The class of a category with another name."
        ),
    ] = None,
    drop_category: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Leave a category of the truth out.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="From which an instance counts for cgF1, pmF1 and IL_MCC. [default: 0.5]",
        ),
    ] = None,
    no_suggest: Annotated[
        bool, typer.Option("--no-suggest", help="Do not look for better thresholds.")
    ] = False,
    partial: Partial = False,
    as_json: AsJson = False,
) -> None:
    """Compare a job's result with ground truth.

    Prints mask AP as COCO has it, SAM 3's cgF1, pmF1 and IL_MCC, and the threshold of each prompt
    that suits the truth best. report.html in the folder shows the worst images, histograms and
    curves. What the truth lists of an image is taken to be all that there is of its categories.

    Examples:

        maskmill evaluate JOB --truth instances_val.json

        maskmill evaluate JOB --truth s3://bucket/truth.json --map hardhat="hard hat"
    """
    from maskmill.client import Client

    mapping = {**dict(map(renamed, map_ or ())), **dict.fromkeys(drop_category or ())}
    options: dict[str, Any] = {"mapping": mapping, "suggest": not no_suggest}
    if min_score is not None:
        options["min_score"] = min_score
    folder = report or Path(f"evaluation-{job_id}")
    with Client() as client:
        with _truth(client, job_id, truth) as where:
            asked = client.create_evaluation(job_id, where, partial=partial, **options)
        made = _made(client, asked, folder)
    assert made.report is not None  # it has succeeded
    if as_json:
        typer.echo(json.dumps(made.report.model_dump(mode="json"), indent=2))
        return
    _print(made.report)
    typer.echo(f"\nLook at {folder / 'report.html'}")


@contextmanager
def _truth(client: "Client", job_id: str, truth: str) -> Iterator[dict[str, str]]:
    """A file is uploaded for one evaluation: once asked for, that keeps it to its end."""
    from maskmill.connection import MaskmillError

    if truth.startswith("s3://"):
        yield {"type": "object", "uri": truth}
        return
    path = Path(truth)
    if not path.is_file():
        raise typer.BadParameter(f"{truth!r} is no file and no s3:// address")
    where = client.upload_truth(f"truth of {job_id}", path)
    try:
        yield where
    finally:
        with suppress(MaskmillError):
            client.delete_dataset(where["id"])


def _made(client: "Client", asked: "Evaluation", folder: Path) -> "Evaluation":
    from maskmill.cli.progress import leaving, require_success, watch_made

    with leaving(f"{asked.id} stays; the same command goes on with it"):
        made = watch_made(asked, client.wait_evaluation)
        require_success(made, made.id)
        return client.download_evaluation(asked.job_id, asked.id, folder)


def _print(report: "EvaluationReport") -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    overall = report.overall
    typer.echo(f"{report.images.evaluated:,} images compared")
    _print_missing(report)
    figures = {
        "AP": overall.precision.ap,
        "AP50": overall.precision.ap50,
        "AP75": overall.precision.ap75,
        "AR": overall.precision.ar100,
        "cgF1": overall.concept.cg_f1,
        "pmF1": overall.concept.pm_f1,
        "IL_MCC": overall.concept.il_mcc,
    }
    typer.echo("  ".join(f"{name} {_figure(value)}" for name, value in figures.items()) + "\n")
    heads = ("cgF1", "prec.", "recall", "F1", "cut at", "prec.", "recall", "F1")
    columns = (Column(head, justify="right") for head in heads)
    table = Table("prompt", "class", *columns, box=None)
    for one in report.prompts:
        better = one.suggestion
        table.add_row(
            Text(printable(one.text)),
            Text(printable(one.class_name)),
            _figure(one.concept.cg_f1),
            *_figures(one.at_min_score),
            *([f"{better.threshold:g}", *_figures(better.figures)] if better else []),
        )
    Console().print(table)


def _print_missing(report: "EvaluationReport") -> None:
    images, categories = report.images, report.categories
    for what, listed in (
        ("in the truth, not in the job", images.not_in_job),
        ("in the truth, failed in the job", images.failed),
        ("whose names fit several", images.ambiguous),
        ("of another size in the truth", images.sizes_differ),
    ):
        _print_listed(what, listed)
    if categories.unmatched:
        names = ", ".join(categories.unmatched)
        typer.echo(printable(f"categories of the truth that fit no class: {names} (--map)"))
    if categories.without_truth:
        names = ", ".join(categories.without_truth)
        typer.echo(printable(f"classes without truth: {names}"))


def _print_listed(what: str, listed: "Listed") -> None:
    if listed.count:
        more = ", ..." if listed.count > len(listed.first[:3]) else ""
        typer.echo(printable(f"{listed.count:,} {what}: {', '.join(listed.first[:3])}{more}"))


def _figures(found: "ThresholdFigures") -> list[str]:
    return [_figure(found.precision), _figure(found.recall), _figure(found.f1)]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
