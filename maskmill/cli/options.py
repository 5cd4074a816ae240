"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from maskmill.engine_choice import Engine, Precision

Source = Annotated[
    str,
    typer.Argument(
        help="A folder or a manifest here (uploaded), s3://bucket/prefix, or "
        "s3://bucket/manifest.jsonl (.csv, .parquet, .txt)."
    ),
]
ResultsPrefix = Annotated[
    str | None,
    typer.Option("--output", metavar="S3-PREFIX", help="Write results to s3://bucket/prefix."),
]
JobName = Annotated[str | None, typer.Option("--name", help="A name to find the job by.")]
Webhook = Annotated[
    str | None,
    typer.Option("--webhook", metavar="URL", help="Have an https address told when it ends."),
]
AcceptExpiringLinks = Annotated[
    bool,
    typer.Option(
        "--accept-expiring-links",
        help="Run although links in the manifest may expire before the job ends.",
    ),
]
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
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda or mps; else MASKMILL_DEVICE, else auto.")
]


EngineChoice = Annotated[
    Engine | None,
    typer.Option(
        "--engine",
        envvar="MASKMILL_ENGINE",
        show_envvar=False,
        help="staged: the network in stages, each done once where it can be; fast. reference: "
        "Meta's own code as published, to compare with; needs a CUDA device, sam3.pt and "
        "pip install 'maskmill[reference]'. Else MASKMILL_ENGINE, else staged.",
    ),
]
PrecisionChoice = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        envvar="MASKMILL_PRECISION",
        show_envvar=False,
        help="bfloat16: half the memory and faster on a GPU, most scores some thousandths off. "
        "float32: exact, and faster on most CPUs. auto: bfloat16 on CUDA, float32 elsewhere. "
        "float8: faster still on Ada, Hopper and later, a little off; see "
        "docs/reference/engine.md. Else MASKMILL_PRECISION, else auto.",
    ),
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
