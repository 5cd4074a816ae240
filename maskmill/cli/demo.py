"""`maskmill demo`: sample scenes, labelled."""

from pathlib import Path
from typing import Annotated

import typer

from domain.documents import JobPromptDocument
from maskmill.cli.label import run_label
from maskmill.labelling import LabelRequest
from maskmill.sample_scenes import draw_scene

PROMPTS = ("red circle", "green square", "blue", "ring", "cross", "purple star")


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, help="Folder for the results.")
    ] = Path("demo-output"),
    images: Annotated[int, typer.Option(min=1, max=10_000, help="How many scenes.")] = 80,
) -> None:
    """Draw scenes of coloured shapes and label them with the network that is shipped.

    What happens is what happens to your own images: a real job on real servers.
    """
    folder = output / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for scene in folder.glob("scene-*.jpg"):  # of an earlier run with more of them
        scene.unlink()
    for number in range(images):
        (folder / f"scene-{number:04d}.jpg").write_bytes(draw_scene(number).encoded("JPEG"))
    typer.echo(f"{images} sample scenes are in {folder}/; looking for {', '.join(PROMPTS)}")
    prompts = [JobPromptDocument(text=text) for text in PROMPTS]
    run_label(LabelRequest(str(folder), prompts, output, model="demo-sam3"))
    typer.echo(
        "\nThe demo network only knows coloured shapes. For photographs: "
        "maskmill label --model facebook/sam3 (README, 'Real photographs')."
    )
