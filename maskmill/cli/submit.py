"""`maskmill submit`"""

from pathlib import Path
from typing import Annotated, Any

import typer

from maskmill.cli.options import Floor, ModelName, Prompts, PromptsFile


def submit(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder or a manifest here (uploaded), s3://bucket/prefix, or "
            "s3://bucket/manifest.jsonl (.csv, .parquet, .txt)."
        ),
    ],
    *,
    prompt: Prompts = None,
    prompts_file: PromptsFile = None,
    model: ModelName = None,
    floor: Floor = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="S3-PREFIX", help="Write results to s3://bucket/prefix instead."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name to find the job by.")] = None,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Have an https address told when the job ends."),
    ] = None,
    accept_expiring_links: Annotated[
        bool,
        typer.Option(
            "--accept-expiring-links",
            help="Run although links in the manifest may expire before the job ends.",
        ),
    ] = False,
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
        where = source if source.startswith("s3://") else _upload(client, source, name)
        job = client.create_job(where, prompts, **options)
        typer.echo(job.id)
        if wait:
            from maskmill.cli.jobs import watch_and_exit

            watch_and_exit(client, job.id)


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
