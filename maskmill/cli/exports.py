"""`maskmill export`, `exports`"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.exports import ExportFormat
from domain.printable import printable
from maskmill.cli.options import AsJson, JobId

if TYPE_CHECKING:
    from maskmill.answers import Export


def export(
    job_id: JobId,
    *,
    format_: Annotated[ExportFormat, typer.Option("--format", "-f", help="Of which tool.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", file_okay=False, help="Folder, of this export alone."),
    ],
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Score from which instances are shown. [default: each prompt's threshold, 0.5 "
            "without one]",
        ),
    ] = None,
    class_score: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SCORE", help="For one class; before --min-score."),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="OLD=NEW", help="Another name for a class; many may become one."
        ),
    ] = None,
    drop_class: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Leave a class out.")
    ] = None,
    nms_within: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="IOU",
            help="Of two masks of one class that overlap by more, keep the better.",
        ),
    ] = None,
    nms_across: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="IOU", help="The same, whatever their classes."),
    ] = None,
    exclusive: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B", help="Classes that exclude each other where masks overlap by half."
        ),
    ] = None,
    min_area: Annotated[
        int | None, typer.Option(min=0, metavar="PIXELS", help="Smaller masks are left out.")
    ] = None,
    max_area: Annotated[
        int | None, typer.Option(min=0, metavar="PIXELS", help="Larger masks are left out.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Keep the N best of an image.")
    ] = None,
    geometry: Annotated[
        str | None,
        typer.Option(
            metavar="rle|polygon",
            help="How coco, coco-shards and label-studio write masks. [default: rle]",
        ),
    ] = None,
    polygon_tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            metavar="PIXELS",
            help="How far a polygon may leave the mask's outline. [default: 0.5]",
        ),
    ] = None,
    coordinates: Annotated[
        str | None,
        typer.Option(
            metavar="oriented|raw",
            help="Of the image as EXIF turns it, or as its pixels are stored. [default: oriented]",
        ),
    ] = None,
    image_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Put before image names, where a tool opens them by itself."
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="What is labelled so far of a job that still runs.")
    ] = False,
    no_unpack: Annotated[
        bool, typer.Option("--no-unpack", help="Leave ZIP archives as they are.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download a job's result in the format of another tool.

    All instances above the job's floor are kept, so this only chooses what to show: no image is
    labelled again, and no GPU is needed. The same command again goes on where it was stopped; other
    options want another folder. maskmill.json in it says what was chosen, and where it comes from.

    Examples:

        maskmill export JOB --format yolo --output yolo/ --min-score 0.6

        maskmill export JOB -f coco -o labels/ --class-score "hard hat=0.7" --nms-within 0.8

        maskmill export JOB -f cvat -o cvat/ --map "hard hat=helmet" --drop-class dog

        maskmill export JOB -f coco -o coco/ --geometry polygon --polygon-tolerance 1

        maskmill export JOB -f label-studio -o tasks/ --image-prefix s3://bucket/photos/

        maskmill export JOB -f parquet -o so-far/ --partial
    """
    body = {
        "format": format_,
        "min_score": min_score,
        "class_scores": dict(map(_class_score, class_score or ())),
        "classes": {**dict(map(_renamed, map_ or ())), **dict.fromkeys(drop_class or ())},
        "nms_within": nms_within,
        "nms_across": nms_across,
        "exclusive": [{"classes": _names(group)} for group in exclusive or ()],
        "min_area": min_area,
        "max_area": max_area,
        "top_k": top_k,
        "geometry": geometry,
        "polygon_tolerance": polygon_tolerance,
        "coordinates": coordinates,
        "image_prefix": image_prefix,
    }
    options = _checked({name: value for name, value in body.items() if value not in (None, [], {})})
    done = _exported(job_id, options, output, partial=partial, unpack=not no_unpack)
    if as_json:
        typer.echo(json.dumps(done.model_dump(mode="json"), indent=2))
    else:
        _print_report(done, output)


def _exported(
    job_id: str, options: dict[str, Any], output: Path, *, partial: bool, unpack: bool
) -> "Export":
    from maskmill.cli.progress import byte_bar, watch_export
    from maskmill.client import Client

    with Client() as client:
        asked = client.create_export(job_id, options, partial=partial)
        try:
            made = watch_export(client, asked)
            if made.status == "succeeded":
                with byte_bar("downloading") as progress:
                    return client.download_export(
                        job_id, made.id, output, unpack=unpack, on_bytes=progress
                    )
        except KeyboardInterrupt:
            typer.echo(f"{asked.id} stays; the same command goes on with it", err=True)
            raise typer.Exit(130) from None
    reason = f": {made.error.message} ({made.error.code})" if made.error else ""
    typer.echo(printable(f"Error: {made.id} has {made.status}{reason}"), err=True)
    raise typer.Exit(1)


def _class_score(text: str) -> tuple[str, str]:
    name, separator, score = text.rpartition("=")
    if not separator:
        raise typer.BadParameter(f"--class-score {text!r}: write it as NAME=0.6")
    return name.strip(), score.strip()


def _renamed(text: str) -> tuple[str, str]:
    old, separator, new = text.partition("=")
    if not separator:
        raise typer.BadParameter(f"--map {text!r}: write it as OLD=NEW")
    return old.strip(), new.strip()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    """A usage error for what the service would refuse."""
    from pydantic import ValidationError

    from domain.exports import ExportOptions

    try:
        return ExportOptions.model_validate(body).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise typer.BadParameter(f"{field}: {first['msg']}") from error


def _print_report(export: "Export", folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    assert export.report is not None  # it has succeeded
    report, files = export.report, export.files or []
    rows = [
        ("export", f"{export.id}, {export.options['format']}"),
        ("images", f"{report.images:,}"),
        ("instances", f"{report.instances:,}"),
        ("files", f"{len(files):,}, {sum(file.bytes for file in files):,} bytes"),
        ("folder", str(folder)),
    ]
    if (loss := report.loss) is not None and loss.instances:
        rows += [
            (
                "polygons",
                f"IoU with the masks: {loss.mean_iou:.4f} mean, {loss.worst_iou:.4f} worst",
            ),
            ("", f"{loss.holes:,} holes cut in, {loss.parts:,} parts joined"),
            ("", f"{loss.dropped:,} instances too small for a polygon"),
        ]
    table = Table(box=None, show_header=False)
    for name, value in rows:
        table.add_row(name, Text(printable(value)))
    Console(soft_wrap=True).print(table)


def exports(job_id: JobId, as_json: AsJson = False) -> None:
    """List the exports of a job, newest first."""
    from rich.console import Console
    from rich.table import Column, Table

    from maskmill.cli.jobs import time_of
    from maskmill.client import Client

    with Client() as client:
        found = list(client.iter_exports(job_id))
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=2))
        return
    whole = Column("export", no_wrap=True, min_width=30)  # people copy it
    table = Table(whole, "format", "status", "images", "instances", "created", box=None)
    for one in found:
        images, instances = _counts(one)
        created = time_of(one.created_at)
        table.add_row(one.id, one.options["format"], one.status, images, instances, created)
    Console().print(table)


def _counts(export: "Export") -> tuple[str, str]:
    report = export.report
    return (f"{report.images:,}", f"{report.instances:,}") if report else ("", "")
