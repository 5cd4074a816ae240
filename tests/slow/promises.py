"""What a preview of 50 images promises for 5,000, and what these then take. With the demo network
on scenes of its own, named again and again by a manifest; or, as fast as the machine lets it, with
`null:20ms`. A process of its own; prints one line of JSON.

    python -m tests.slow.promises [--model demo-sam3] [--images 5000]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from maskmill.client import Client
from maskmill.embedded import EmbeddedStack, StackOptions
from maskmill.job_sources import dataset_source
from maskmill.sample_scenes import draw_scene

SAMPLE, SCENES = 50, 100
PROMPTS = ["red circle", "star", "square"]


def main() -> None:
    options = _options()
    environment = {"MASKMILL_MODELS": options.model, "MASKMILL_ALLOWED_SOURCES": "null://"}
    with tempfile.TemporaryDirectory(prefix="maskmill-promises-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may run as another user
        stack_options = StackOptions(
            data=folder / "data", interactive=False, extra_environment=environment
        )
        with EmbeddedStack(stack_options) as stack, Client(stack.url, stack.api_key) as client:
            is_null = options.model.startswith("null")
            source = f"null://{options.images}" if is_null else None
            job = client.create_job(
                source or _manifest(client, folder / "scenes", images=options.images),
                PROMPTS,
                hold=True,
            )
            print(json.dumps(_measured(client, job.id, options.images)))  # noqa: T201


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="demo-sam3")
    parser.add_argument("--images", type=int, default=5000)
    return parser.parse_args()


def _manifest(client: Client, folder: Path, *, images: int) -> dict[str, str]:
    """Each scene is uploaded once and named many times."""
    folder.mkdir()
    for number in range(SCENES):
        draw_scene(number, size=256).image.convert("RGB").save(folder / f"{number:03}.jpg")
    names = [f"{number % SCENES:03}.jpg" for number in range(images)]
    (folder / "images.txt").write_text("\n".join(names))
    dataset = client.create_dataset("scenes")
    files = sorted(path.name for path in folder.iterdir())
    client.upload_files(dataset.id, folder, files)
    return dataset_source(dataset.id, manifest="images.txt")


def _measured(client: Client, job_id: str, images: int) -> dict[str, object]:
    client.create_preview(job_id, images=SAMPLE)
    preview = client.wait_preview(job_id, timeout_seconds=600)
    assert preview.report is not None
    estimate = preview.report.estimate
    assert estimate is not None
    assert estimate.images_total == images
    client.promote(job_id)
    began = time.monotonic()
    job = client.wait(job_id, timeout_seconds=7200)
    assert job.counts.succeeded == images
    took = time.monotonic() - began
    per_image = took / (images - SAMPLE)
    return {
        "images": images,
        "promised_seconds": round(estimate.seconds, 1),
        "took_seconds": round(per_image * images, 1),  # of all, the sample's at the same pace
        "off": round(estimate.seconds / (per_image * images) - 1, 3),
        "low": estimate.seconds_per_image_low,
        "high": estimate.seconds_per_image_high,
    }


if __name__ == "__main__":
    main()
