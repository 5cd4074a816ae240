"""Options of commands that show a result in another format."""

from typing import Annotated, Any

import typer

from domain.exports import ExportFormat

ShownScore = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Score from which instances are shown. [default: each prompt's threshold, 0.5 "
        "without one]",
    ),
]
ClassScores = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=SCORE", help="For one class; before --min-score."),
]
NewNames = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OLD=NEW", help="Another name for a class; many may become one."),
]
DroppedClasses = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Leave a class out.")
]
NmsWithin = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="IOU",
        help="Of two masks of one class that overlap by more, keep the better.",
    ),
]
NmsAcross = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="IOU", help="The same, whatever their classes."),
]
Exclusive = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B", help="Classes that exclude each other where masks overlap by half."
    ),
]
MinArea = Annotated[
    int | None, typer.Option(min=0, metavar="PIXELS", help="Smaller masks are left out.")
]
MaxArea = Annotated[
    int | None, typer.Option(min=0, metavar="PIXELS", help="Larger masks are left out.")
]
TopK = Annotated[int | None, typer.Option(min=1, metavar="N", help="Keep the N best of an image.")]
Geometry = Annotated[
    str | None,
    typer.Option(
        metavar="rle|polygon",
        help="How coco, coco-shards and label-studio write masks. [default: rle]",
    ),
]
PolygonTolerance = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=100,
        metavar="PIXELS",
        help="How far a polygon may leave the mask's outline. [default: 1]",
    ),
]
Coordinates = Annotated[
    str | None,
    typer.Option(
        metavar="oriented|raw",
        help="Of the image as EXIF turns it, or as its pixels are stored. [default: oriented]",
    ),
]
ImagePrefix = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Put before image names, where a tool opens them by itself."),
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial", help="Of a job that still runs: what is labelled when the export begins."
    ),
]


def asked_options(
    export_format: ExportFormat,
    *,
    class_score: list[str] | None,
    map_: list[str] | None,
    drop_class: list[str] | None,
    exclusive: list[str] | None,
    **others: float | str | None,
) -> dict[str, Any]:
    """`ExportOptions` as JSON, those that were given; `others` have their names there already. A
    usage error for what the service would refuse."""
    body = {
        "format": export_format,
        "class_scores": dict(map(_class_score, class_score or ())),
        "classes": {**dict(map(renamed, map_ or ())), **dict.fromkeys(drop_class or ())},
        "exclusive": [{"classes": _names(group)} for group in exclusive or ()],
        **others,
    }
    return _checked({name: value for name, value in body.items() if value not in (None, [], {})})


def _class_score(text: str) -> tuple[str, str]:
    name, separator, score = text.rpartition("=")
    if not separator:
        raise typer.BadParameter(f"--class-score {text!r}: write it as NAME=0.6")
    return name.strip(), score.strip()


def renamed(text: str) -> tuple[str, str]:
    old, separator, new = text.partition("=")
    if not separator:
        raise typer.BadParameter(f"--map {text!r}: write it as OLD=NEW")
    return old.strip(), new.strip()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    from pydantic import ValidationError

    from domain.exports import ExportOptions

    try:
        return ExportOptions.model_validate(body).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise typer.BadParameter(f"{field}: {first['msg']}") from error
