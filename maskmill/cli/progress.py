"""Progress bars, drawn on stderr so that stdout stays free for results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TransferSpeedColumn,
)

from domain.lifecycle import ExportStatus
from domain.printable import printable
from maskmill.answers import Evaluation, Export, Job, Made, Preview
from maskmill.client import Client, FileProgress
from maskmill.export_folder import ByteProgress


def watch_job(client: Client, job_id: str) -> Job:
    """Show a job's progress until it has ended. Ctrl-C raises, and does not end the job."""
    with _images_bar() as progress:
        task = progress.add_task("", total=None, images="", speed="")

        def show(job: Job) -> None:
            progress.update(
                task,
                description=_state(job),
                completed=job.counts.done,
                total=_total(job),
                images=_images(job),
                speed=_speed(job),
            )

        return client.wait(job_id, show)


def _images_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[images]}"),
        TextColumn("{task.fields[speed]}"),
        console=Console(stderr=True),
    )


@contextmanager
def file_bar(verb: str, things: str = "files") -> Iterator[FileProgress]:
    """Call what it yields with (files done, files in all), or other things."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {things}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(verb, total=0)
        yield lambda done, total: progress.update(task, completed=done, total=total)


MadeT = TypeVar("MadeT", Export, Evaluation)


def watch_made(asked: MadeT, wait: Callable[[str, str, Callable[[MadeT], None]], MadeT]) -> MadeT:
    """Show the progress of an export, or an evaluation, until it has ended. Ctrl-C raises, and does
    not end it."""
    with _images_bar() as progress:
        task = progress.add_task("", total=None, images="", speed="")

        def show(found: MadeT) -> None:
            read = found.progress
            progress.update(
                task,
                description=str(found.status),
                completed=read.images_total if found.ended else read.images_read,
                total=read.images_total,
                images="" if found.ended else _images_read(found),
                speed=_speed(found),
            )

        return wait(asked.job_id, asked.id, show)


@contextmanager
def leaving(hint: str) -> Iterator[None]:
    """Ctrl-C ends the command with 130, and says what becomes of what the service does."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(hint, err=True)
        raise typer.Exit(130) from None


def require_success(made: Made, name: str) -> None:
    """Ends the command with 1, and the reason, where it has failed or was canceled."""
    if made.status != ExportStatus.SUCCEEDED:
        reason = f": {made.error.message} ({made.error.code})" if made.error else ""
        typer.echo(printable(f"Error: {name} has {made.status}{reason}"), err=True)
        raise typer.Exit(1)


def watch_preview(client: Client, job_id: str) -> Preview:
    """Show a preview's progress until it has ended. Ctrl-C raises, and ends nothing."""
    with _images_bar() as progress:
        task = progress.add_task("", total=None, images="", speed="")

        def show(found: Preview) -> None:
            done, total = found.progress.images_done, found.progress.images_total
            progress.update(
                task,
                description="reading the source" if total is None else "previewing",
                completed=done,
                total=total,
                images="" if total is None else f"{done:,} of {total:,} images",
            )

        return client.wait_preview(job_id, show)


def _images_read(made: Export | Evaluation) -> str:
    read = made.progress
    if read.images_total is None:
        return ""
    again = f", pass {read.pass_number}" if read.pass_number > 1 else ""
    return f"{read.images_read:,} of {read.images_total:,} images{again}"


@contextmanager
def byte_bar(verb: str) -> Iterator[ByteProgress]:
    """Call what it yields with (bytes here, bytes in all)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(verb, total=0)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def outcome_line(job: Job) -> str:
    """What became of a job, in one line."""
    counts = job.counts
    line = f"{job.status}: {counts.succeeded:,} images labelled, {job.instances:,} instances"
    line += f", {counts.failed:,} failed" if counts.failed else ""
    line += f", {counts.canceled:,} not done" if counts.canceled else ""
    if job.error is None:
        return line
    where = f"line {job.error.line}: " if job.error.line is not None else ""
    return printable(f"{job.status}: {where}{job.error.message} ({job.error.code})")


def _state(job: Job) -> str:
    if job.cancel_requested_at and not job.ended:
        return "canceling"
    if job.held_at and not job.ended:
        return "on hold"
    return "paused" if job.paused_at else str(job.status)


def _total(job: Job) -> int | None:
    """None makes the bar pulse."""
    return job.counts.total if job.total_is_final or job.ended else None


def _images(job: Job) -> str:
    more = "" if job.total_is_final or job.ended else "+"
    failed = f", {job.counts.failed:,} failed" if job.counts.failed else ""
    return f"{job.counts.done:,} of {job.counts.total:,}{more} images{failed}"


def _speed(work: Job | Export | Evaluation) -> str:
    if work.ended or work.rate is None:
        return ""
    left = f", {duration(work.eta_seconds)} left" if work.eta_seconds is not None else ""
    return f"{work.rate:,.1f} images/s{left}"


def duration(seconds: float) -> str:
    """`3 h 12 min`, `4 min 5 s`, `12 s`"""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600:,} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
