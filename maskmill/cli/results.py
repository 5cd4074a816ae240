"""`maskmill results`, `errors`"""

import json
from pathlib import Path
from typing import Annotated

import typer

from domain.printable import printable
from maskmill.cli.options import AsJson, JobId, MinScore


def results(
    job_id: JobId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", file_okay=False, help="Folder. [default: the job's id]"),
    ] = None,
    min_score: MinScore = None,
    images: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="The images, if you have them: for the picture."
        ),
    ] = None,
) -> None:
    """Download a job's results.

    The folder then has annotations.coco.json, errors.jsonl, contact-sheet.png, manifest.json and
    the Parquet parts, which hold every instance above the job's floor. Called again, with
    another --min-score for one, it fetches nothing twice.
    """
    from maskmill.cli.progress import file_bar
    from maskmill.client import Client
    from maskmill.job_results import JobResults
    from maskmill.result_folder import DamagedResult, write_result_folder

    folder = output or Path(job_id)
    try:
        with Client() as client, file_bar("downloading") as progress:
            written = write_result_folder(
                folder,
                JobResults(client, job_id),
                read_image=lambda name: _read_image(images, name),
                min_score=min_score,
                on_progress=progress,
            )
    except DamagedResult as error:
        typer.echo(f"Error: {printable(str(error))}", err=True)
        raise typer.Exit(1) from error
    typer.echo(
        f"{folder}: {written.succeeded:,} images, {written.annotations:,} annotations, "
        f"{written.failed:,} failed"
    )


def _read_image(folder: Path | None, name: str) -> bytes | None:
    """Only below `folder`, whatever the name says."""
    if folder is None:
        return None
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    return path.read_bytes()


def errors(
    job_id: JobId,
    code: Annotated[
        str | None, typer.Option(help="Only these: not_found, forbidden, truncated, ....")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the images that could not be labelled, also while the job runs.

    With --json one object a line.
    """
    from maskmill.client import Client

    with Client() as client:
        for failed in client.errors(job_id, code=code):
            if as_json:
                typer.echo(json.dumps(failed.model_dump(mode="json")))
            else:
                line = f"{failed.code:<14}{failed.image}  {failed.message}"
                typer.echo(printable(line))
