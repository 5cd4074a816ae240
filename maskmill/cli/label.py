"""`maskmill label`: a whole job in one command, on an embedded stack of its own."""

from pathlib import Path
from typing import Annotated

import typer

from domain.printable import printable
from maskmill.cli.options import (
    Device,
    EngineChoice,
    Floor,
    MinScore,
    ModelName,
    Output,
    PrecisionChoice,
    Prompts,
    PromptsFile,
)
from maskmill.cli.progress import outcome_line, watch_job
from maskmill.cli.prompts import parse_prompts
from maskmill.embedded import StackError
from maskmill.labelling import LabelRequest, UnusableSourceError
from maskmill.labelling import label as run
from maskmill.result_folder import ResultFolder


def label(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, s3://bucket/prefix, or a manifest: .jsonl, .csv, .parquet, or .txt "
            "with one URI a line.",
        ),
    ],
    output: Output,
    prompt: Prompts = None,
    prompts_file: PromptsFile = None,
    min_score: MinScore = None,
    floor: Floor = None,
    model: ModelName = None,
    device: Device = None,
    engine: EngineChoice = None,
    precision: PrecisionChoice = None,
    root: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder that a manifest file may name images of. [default: the manifest's]",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Keep the stack's data here. [default: thrown away]"),
    ] = None,
) -> None:
    """Label images from start to finish on this machine; no service needs to run.

    Leaves in the output folder: `annotations.coco.json`, `parts/*.parquet`, `manifest.json`,
    `errors.jsonl` and `contact-sheet.png`. Ends with 0 when the job is done, also where single
    images failed (see errors.jsonl), and with 1 when nothing could be labelled.

        maskmill label photos/ --prompt "red circle" --prompt star --output labels/

        maskmill label s3://bucket/photos/ -p "hard hat::helmet" -o labels/ --model facebook/sam3
    """
    run_label(
        LabelRequest(
            source=source,
            prompts=parse_prompts(prompt, prompts_file),
            output=output,
            min_score=min_score,
            floor=floor,
            model=model,
            device=device,
            engine=engine,
            precision=precision,
            root=root,
            data=data,
        )
    )


def run_label(request: LabelRequest) -> None:
    """Run the job and say what came of it; typer.Exit(1) when nothing could be labelled."""
    typer.echo("Starting PostgreSQL, Valkey, the API and the workers", err=True)
    try:
        done = run(request, announce=lambda line: typer.echo(line, err=True), watch=watch_job)
    except (UnusableSourceError, StackError) as error:
        message = printable(str(error), keep="\n")  # the end of a log
        typer.echo(f"Error: {message}", err=True)
        raise typer.Exit(1) from None
    typer.echo(outcome_line(done.job))
    nothing_done = done.result is None or done.result.succeeded == 0
    if done.result is not None and not (nothing_done and done.job.error is not None):
        _describe(done.result)  # else the reason, last, is all there is to say
    if done.job.error is not None or nothing_done:
        raise typer.Exit(1)


def _describe(result: ResultFolder) -> None:
    typer.echo(f"{result.annotations:,} annotations above the threshold. In {result.folder}/:")
    typer.echo("  contact-sheet.png      the masks over the images")
    typer.echo("  annotations.coco.json  COCO, run-length masks with scores")
    typer.echo("  parts/, manifest.json  everything above the floor, as Parquet")
    typer.echo(f"  errors.jsonl           {result.failed:,} images that could not be labelled")
