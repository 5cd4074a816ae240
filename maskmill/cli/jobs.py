"""`maskmill jobs`, `show`, `watch`, `cancel`, `pause`, `resume`, `retry`, `priority`"""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from domain.printable import printable
from maskmill.cli.options import AsJson, JobId

if TYPE_CHECKING:
    from maskmill.client import Client, Job


def jobs(
    status: Annotated[
        str | None, typer.Option(help="queued, planning, running, succeeded, failed or canceled.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List your jobs, newest first."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from maskmill.client import Client

    with Client() as client:
        found = client.list_jobs(status=status, limit=limit)
    if as_json:
        typer.echo(json.dumps([job.model_dump(mode="json") for job in found], indent=2))
        return
    whole = Column("job", no_wrap=True, min_width=30)  # people copy it
    table = Table(whole, "name", "status", "images", "failed", "created", box=None)
    for job in found:
        images = f"{job.counts.succeeded:,} of {job.counts.total:,}"
        failed = f"{job.counts.failed:,}"
        name = Text(printable(job.name or ""))  # not str: that may hold markup
        table.add_row(job.id, name, job.status, images, failed, time_of(job.created_at))
    Console().print(table)


def show(job_id: JobId, as_json: AsJson = False) -> None:
    """Show everything about a job."""
    from maskmill.client import Client

    with Client() as client:
        job = client.get_job(job_id)
    if as_json:
        typer.echo(json.dumps(job.model_dump(mode="json"), indent=2))
        return
    for name, value in _facts(job):
        typer.echo(f"{name:<10}{printable(value)}")


def watch(job_id: JobId) -> None:
    """Watch a job until it ends. Ctrl-C stops watching, not the job.

    Ends with 0 when the job succeeded, also with failed images.
    """
    from maskmill.client import Client

    with Client() as client:
        watch_and_exit(client, job_id)


def cancel(job_id: JobId) -> None:
    """End a job soon; what is labelled stays."""
    from maskmill.client import Client

    with Client() as client:
        job = client.cancel(job_id)
    typer.echo(f"{job.id} is being canceled" if not job.ended else f"{job.id} is canceled")


def pause(job_id: JobId) -> None:
    """Have a job wait; what is labelled stays.

    Its workers stop within a batch of images and are free for other jobs. Its images are listed
    to the end all the same.
    """
    from maskmill.client import Client

    with Client() as client:
        job = client.pause(job_id)
    typer.echo(f"{job.id} is paused until: maskmill resume {job.id}")


def resume(job_id: JobId) -> None:
    """Let a paused job go on. A job that is not paused is left alone."""
    from maskmill.client import Client

    with Client() as client:
        job = client.resume(job_id)
    typer.echo(f"{job.id} goes on")


def retry(
    job_id: JobId,
    code: Annotated[
        list[str] | None,
        typer.Option(help="Only those that failed so, as often as you like: fetch_error, timeout."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch the job until it ends.")] = False,
) -> None:
    """Run the failed images of a job again, and no others.

    For jobs that have ended: after a store was away, or files were missing. Results of all other
    images stay as they are; `maskmill errors JOB` tells what failed and how.
    """
    from maskmill.client import Client

    with Client() as client:
        job = client.retry(job_id, codes=code or ())
        typer.echo(f"{job.id} runs again")
        if wait:
            watch_and_exit(client, job.id)


def priority(
    job_id: JobId,
    number: Annotated[
        int, typer.Argument(min=-100, max=100, help="Higher runs first; 0 unless said otherwise.")
    ],
) -> None:
    """Move a job before or behind others. What runs already is not interrupted.

    A number below 0 comes after two dashes: maskmill priority JOB -- -10
    """
    from maskmill.client import Client

    with Client() as client:
        job = client.set_priority(job_id, number)
    typer.echo(f"{job.id} has priority {job.priority}")


def watch_and_exit(client: "Client", job_id: str) -> None:
    from maskmill.cli.progress import leaving, outcome_line, watch_job

    with leaving(f"The job goes on: maskmill watch {job_id}"):
        job = watch_job(client, job_id)
    typer.echo(outcome_line(job), err=True)
    raise typer.Exit(0 if job.status == "succeeded" else 1)


def _facts(job: "Job") -> list[tuple[str, str]]:
    from maskmill.cli.progress import outcome_line

    times = {
        "created": job.created_at,
        "planning": job.planning_at,
        "running": job.running_at,
        "finished": job.finished_at,
        "paused": job.paused_at,
    }
    prompts = ", ".join(
        f"{p.text} ({p.class_name})" if p.class_name else p.text for p in job.prompts
    )
    return [
        ("job", job.id),
        *([("name", job.name)] if job.name else []),
        ("status", outcome_line(job)),
        ("images", f"{job.counts.done:,} of {job.counts.total:,} done"),
        ("source", " ".join(value for value in job.source.values() if value)),
        ("prompts", prompts or "those of the manifest"),
        ("model", f"{job.model}, floor {job.floor:g}"),
        ("output", job.output or "kept by the service"),
        *((name, time_of(time)) for name, time in times.items() if time),
    ]


def time_of(time: datetime) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
