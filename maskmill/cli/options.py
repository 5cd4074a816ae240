"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        "-p",
        metavar="TEXT[::CLASS]",
        help='What to find, as often as you like: "red circle", or "hard hat::helmet" to name '
        "the class.",
    ),
]
PromptsFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts-file",
        exists=True,
        dir_okay=False,
        help='More prompts: .txt has one a line, .json a list like ["star", {"text": "hard hat", '
        '"class_name": "helmet", "threshold": 0.6}].',
    ),
]
Floor = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Instances with a lower score are not kept at all. [default: 0.1]"
    ),
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="Which network. [default: the service's first]")
]
MinScore = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Score from which instances go into the COCO file. [default: each prompt's "
        "threshold, 0.5 without one]",
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", file_okay=False, help="Folder for the results.")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, like job_01k5....")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
