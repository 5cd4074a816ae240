"""`maskmill submit`"""

from pathlib import Path
from typing import Annotated, Any

import typer

from maskmill.cli.options import (
    AcceptExpiringLinks,
    Floor,
    JobName,
    ModelName,
    Prompts,
    PromptsFile,
    ResultsPrefix,
    Source,
    Webhook,
)


def submit(
    source: Source,
    *,
    prompt: Prompts = None,
    prompts_file: PromptsFile = None,
    model: ModelName = None,
    floor: Floor = None,
    output: ResultsPrefix = None,
    name: JobName = None,
    webhook: Webhook = None,
    accept_expiring_links: AcceptExpiringLinks = False,
    wait: Annotated[bool, typer.Option("--wait", help="Watch the job until it ends.")] = False,
) -> None:
    """Send a job to the service. Prints the job's id.

    Examples:

        maskmill submit photos/ --prompt "red circle" --prompt star --wait

        maskmill submit s3://bucket/photos/ --prompts-file prompts.json --name week-12

        maskmill submit images.jsonl        # its items bring their own prompts
    """
    from maskmill.cli.prompts import parse_prompts
    from maskmill.client import Client

    prompts = parse_prompts(prompt, prompts_file)
    options: dict[str, Any] = {
        **{"model": model, "floor": floor, "output": output, "name": name},
        "webhook_url": webhook,
        "accept_expiring_links": accept_expiring_links or None,
    }
    with Client() as client:
        job = client.create_job(where_of(client, source, name=name), prompts, **options)
        typer.echo(job.id)
        if wait:
            from maskmill.cli.jobs import watch_and_exit

            watch_and_exit(client, job.id)


def where_of(client: Any, source: str, *, name: str | None) -> str | dict[str, str]:
    """The source as the service has it: what lies here is uploaded."""
    return source if source.startswith("s3://") else _upload(client, source, name)


def _upload(client: Any, source: str, name: str | None) -> dict[str, str]:
    """A dataset made of a folder's images, or of a manifest and the images it names."""
    from domain.file_kinds import is_manifest_name
    from maskmill.cli.progress import file_bar
    from maskmill.job_sources import dataset_source, image_names
    from maskmill.local_manifest import local_images

    path = Path(source)
    if path.is_dir():
        folder, names, manifest = path, image_names(path), None
    elif path.is_file() and is_manifest_name(path.name):
        folder, manifest = path.parent, path.name
        names = [path.name, *local_images(path)]
    else:
        raise typer.BadParameter(f"{source!r} is no folder, manifest or s3:// address")
    if not names:
        raise typer.BadParameter(f"there are no images in {source!r}")
    dataset = client.create_dataset(name or path.resolve().name or "dataset")
    with file_bar("uploading") as progress:
        client.upload_files(dataset.id, folder, names, on_progress=progress)
    return dataset_source(dataset.id, manifest=manifest)
