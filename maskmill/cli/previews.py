"""`maskmill preview`, `promote`, `lint`"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.printable import printable
from maskmill.cli.options import (
    AcceptExpiringLinks,
    AsJson,
    Floor,
    JobId,
    JobName,
    ModelName,
    Prompts,
    PromptsFile,
    ResultsPrefix,
    Source,
    Webhook,
)

if TYPE_CHECKING:
    from domain.findings import PromptFinding
    from domain.preview import PreviewReport
    from maskmill.answers import Preview
    from maskmill.client import Client


_JOB_ID = re.compile("job_[0-9a-z]{26}")


def preview(
    source: Source,
    *,
    prompt: Prompts = None,
    prompts_file: PromptsFile = None,
    images: Annotated[
        int, typer.Option(min=1, max=1000, help="How many to look at, chosen by chance.")
    ] = 50,
    report: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for the page. [default: the job's id]"),
    ] = None,
    model: ModelName = None,
    floor: Floor = None,
    output: ResultsPrefix = None,
    name: JobName = None,
    webhook: Webhook = None,
    accept_expiring_links: AcceptExpiringLinks = False,
    as_json: AsJson = False,
) -> None:
    """Look at some images before all are labelled.

    Makes a job that is on hold, labels some of its images, and tells which prompts find nothing or
    the same things, what is odd about their texts, and how long all images would take. report.html
    in the folder shows the images. Then promote the job, which labels the others, or cancel it and
    try other prompts.

    Examples:

        maskmill preview photos/ --prompt "red circle" --prompt star

        maskmill preview s3://bucket/photos/ --prompts-file prompts.json --images 200

        maskmill preview job_01k5...        # of a job that is on hold already, or once more
    """
    from maskmill.cli.prompts import parse_prompts
    from maskmill.cli.submit import where_of
    from maskmill.client import Client

    prompts = parse_prompts(prompt, prompts_file)
    options: dict[str, Any] = {
        **{"model": model, "floor": floor, "output": output, "name": name},
        "webhook_url": webhook,
        "accept_expiring_links": accept_expiring_links or None,
        "hold": True,
    }
    with Client() as client:
        if _JOB_ID.fullmatch(source):
            job_id = source
            _ask_unless_asked(client, job_id, images)
        else:
            where = where_of(client, source, name=name)
            job_id = client.create_job(where, prompts, **options).id
            client.create_preview(job_id, images=images)
        typer.echo(job_id, err=as_json)
        folder = report or Path(job_id)
        _show(_made(client, job_id, folder), folder, as_json=as_json)


def _ask_unless_asked(client: "Client", job_id: str, images: int) -> None:
    """What was asked for before is shown, whatever number it has; what failed is made again."""
    from maskmill.connection import ApiError

    try:
        before = client.get_preview(job_id)
    except ApiError as error:
        if error.status != 404:
            raise
        client.create_preview(job_id, images=images)
    else:
        client.create_preview(job_id, images=before.images)


def _made(client: "Client", job_id: str, folder: Path) -> "Preview":
    from maskmill.cli.progress import leaving, require_success, watch_preview

    with leaving(f"The job stays on hold: maskmill preview {job_id}, or cancel it"):
        made = watch_preview(client, job_id)
        require_success(made, "the preview")
        return client.download_preview(job_id, folder)


def _show(made: "Preview", folder: Path, *, as_json: bool) -> None:
    assert made.report is not None  # it has succeeded
    if as_json:
        typer.echo(json.dumps(made.report.model_dump(mode="json"), indent=2))
        return
    _print_prompts(made.report)
    texts = [prompt.text for prompt in made.report.prompts]
    _print_findings(made.report.findings, texts)
    _print_estimate(made)
    typer.echo(f"\nLook at {folder / 'report.html'}, then")
    typer.echo(f"  maskmill promote {made.job_id}    # label the others")
    typer.echo(f"  maskmill cancel {made.job_id}     # and try other prompts")


def _print_prompts(report: "PreviewReport") -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    number = {"justify": "right"}
    table = Table(
        *("prompt", "class"),
        *(Column(name, **number) for name in ("threshold", "images", "instances", "best score")),  # type: ignore[arg-type]
        box=None,
    )
    for one in report.prompts:
        best = "" if one.best_score is None else f"{one.best_score:.2f}"
        table.add_row(
            Text(printable(one.text)),
            Text(printable(one.class_name)),
            f"{one.threshold:g}",
            f"{one.images:,} of {report.images:,}",
            f"{one.instances:,}",
            best,
        )
    Console().print(table)
    if report.failed:
        failed = ", ".join(f"{count:,} {code}" for code, count in report.failed.items())
        typer.echo(f"failed: {failed}")


def _print_findings(findings: Sequence["PromptFinding"], texts: Sequence[str]) -> None:
    for finding in findings:
        title = printable(finding.title(texts))
        typer.echo(f"\n{finding.severity}: {title}\n  {printable(finding.message)}")


def _print_estimate(made: "Preview") -> None:
    from maskmill.cli.progress import duration

    assert made.report is not None
    estimate = made.report.estimate
    if estimate is None:
        return
    typer.echo(
        f"\nAll {estimate.images_total:,} images would take one worker like this about "
        f"{duration(estimate.seconds)}: {estimate.seconds_per_image:.3g} s each, "
        f"{estimate.gpu_hours:.3g} GPU hours."
    )


def promote(
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Watch the job until it ends.")] = False,
) -> None:
    """Let a job on hold label all its images. Those of its preview are not labelled again."""
    from maskmill.cli.jobs import watch_and_exit
    from maskmill.client import Client

    with Client() as client:
        job = client.promote(job_id)
        typer.echo(f"{job.id} goes on")
        if wait:
            watch_and_exit(client, job.id)


def lint(
    *,
    prompt: Prompts = None,
    prompts_file: PromptsFile = None,
    model: ModelName = None,
    as_json: AsJson = False,
) -> None:
    """Say what is odd about prompts, without any image.

    Negation, duplicates, words that the network does not know, several things in one prompt. Ends
    with 1 where there is a warning, with 0 where there are hints at most.

    Example:

        maskmill lint --prompt "head without helmet" --prompt "Hard Hat" --prompt "hard  hat"
    """
    from maskmill.cli.prompts import parse_prompts
    from maskmill.client import Client

    prompts = parse_prompts(prompt, prompts_file)
    if not prompts:
        raise typer.BadParameter("give at least one prompt")
    with Client() as client:
        findings = client.lint(prompts, model=model)
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in findings], indent=2))
    else:
        _print_findings(findings, [one.text for one in prompts])
        typer.echo("" if findings else "nothing odd")
    raise typer.Exit(1 if any(one.severity == "warning" for one in findings) else 0)
