"""`maskmill export`, `exports`"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.exports import ExportFormat
from domain.printable import printable
from maskmill.cli.options import AsJson, JobId
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

        maskmill export JOB -f coco -o coco/ --geometry polygon --polygon-tolerance 0.5

        maskmill export JOB -f label-studio -o tasks/ --image-prefix s3://bucket/photos/

        maskmill export JOB -f parquet -o so-far/ --partial
    """
    options = asked_options(
        format_,
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
    done = exported(job_id, options, output, partial=partial, unpack=not no_unpack)
    if as_json:
        typer.echo(json.dumps(done.model_dump(mode="json"), indent=2))
    else:
        _print_report(done, output)


def exported(
    job_id: str, options: dict[str, Any], output: Path, *, partial: bool, unpack: bool = True
) -> "Export":
    """Have it made, wait for it, and download it into `output`."""
    from maskmill.cli.progress import byte_bar, leaving, require_success, watch_made
    from maskmill.client import Client

    with Client() as client:
        asked = client.create_export(job_id, options, partial=partial)
        with leaving(f"{asked.id} stays; the same command goes on with it"):
            made = watch_made(asked, client.wait_export)
            require_success(made, made.id)
            with byte_bar("downloading") as progress:
                return client.download_export(
                    job_id, made.id, output, unpack=unpack, on_bytes=progress
                )


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
