"""`maskmill push`"""

import os
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from domain.exports import ExportFormat
from domain.printable import printable
from maskmill.cli.options import JobId
from maskmill.cli.view_options import (
    ClassScores,
    Coordinates,
    DroppedClasses,
    Exclusive,
    Geometry,
    ImagePrefix,
    MaxArea,
    MinArea,
    NewNames,
    NmsAcross,
    NmsWithin,
    Partial,
    PolygonTolerance,
    ShownScore,
    TopK,
    asked_options,
)


class Tool(StrEnum):
    LABEL_STUDIO = "label-studio"
    CVAT = "cvat"


def push(
    job_id: JobId,
    *,
    to: Annotated[Tool, typer.Option(help="Which tool it is.")],
    url: Annotated[str, typer.Option(metavar="URL", help="Where its server is.")],
    project: Annotated[
        int | None, typer.Option(metavar="ID", help="A project that is there.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The project of this name, made if there is none."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", file_okay=False, help="Keep the export here. [default: nowhere]"
        ),
    ] = None,
    min_score: ShownScore = None,
    class_score: ClassScores = None,
    map_: NewNames = None,
    drop_class: DroppedClasses = None,
    nms_within: NmsWithin = None,
    nms_across: NmsAcross = None,
    exclusive: Exclusive = None,
    min_area: MinArea = None,
    max_area: MaxArea = None,
    top_k: TopK = None,
    geometry: Geometry = None,
    polygon_tolerance: PolygonTolerance = None,
    coordinates: Coordinates = None,
    image_prefix: ImagePrefix = None,
    partial: Partial = False,
) -> None:
    """Send a job's result into a project of Label Studio or CVAT, for people to look at.

    MASKMILL_PUSH_TOKEN is the token of a user there; it goes to that server only, from here. The
    images do not go along: --image-prefix says where the tool, or the browser, finds them.

    The same command again sends only what is not there yet, so one that was stopped goes on. Other
    options, or a result that has grown, are another export, and come in beside the first.

    Examples:

        maskmill push JOB --to label-studio --url https://labels.example.com --name "Week 12" \\
            --image-prefix https://images.example.com/

        maskmill push JOB --to cvat --url https://cvat.example.com --project 7 --min-score 0.6 \\
            --image-prefix https://images.example.com/
    """
    from maskmill.cli.exports import exported
    from maskmill.cli.progress import file_bar
    from maskmill.push import ProjectChoice, push_cvat, push_label_studio

    if (project is None) == (name is None):
        raise typer.BadParameter("give --project ID, or --name NAME")
    choice, token = ProjectChoice(project, name), _token()
    options = asked_options(
        ExportFormat(to),
        min_score=min_score,
        class_score=class_score,
        map_=map_,
        drop_class=drop_class,
        nms_within=nms_within,
        nms_across=nms_across,
        exclusive=exclusive,
        min_area=min_area,
        max_area=max_area,
        top_k=top_k,
        geometry=geometry,
        polygon_tolerance=polygon_tolerance,
        coordinates=coordinates,
        image_prefix=image_prefix,
    )
    send = push_cvat if to is Tool.CVAT else push_label_studio
    with ExitStack() as stack:
        folder = output or Path(stack.enter_context(TemporaryDirectory(prefix="maskmill-push-")))
        exported(job_id, options, folder, partial=partial)
        report = stack.enter_context(file_bar("pushing", "images"))
        done = send(folder, url=url, token=token, project=choice, on_progress=report)
    typer.echo(printable(f"{done.url}: {done.sent:,} images sent, {done.there:,} were there"))


def _token() -> str:
    from maskmill.push.server import TOKEN_VARIABLE

    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        typer.echo(f"Error: set {TOKEN_VARIABLE} to a token of the server to push to", err=True)
        raise typer.Exit(2)
    return token
