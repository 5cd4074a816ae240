"""The `maskmill` command. Commands are loaded when they are called, so that help is quick."""

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from domain.printable import printable

# name: module, attribute (a function, or a typer app of further commands), line of help
COMMANDS = {
    "label": ("label", "label", "Label images from start to finish on this machine."),
    "demo": ("demo", "demo", "Draw scenes of coloured shapes and label them."),
    "up": ("up", "up", "Run the whole service on this machine until Ctrl-C."),
    "submit": ("submit", "submit", "Send a job to the service."),
    "preview": ("previews", "preview", "Look at some images before all are labelled."),
    "promote": ("previews", "promote", "Let a job on hold label all its images."),
    "lint": ("previews", "lint", "Say what is odd about prompts, without any image."),
    "watch": ("jobs", "watch", "Watch a job until it ends."),
    "jobs": ("jobs", "jobs", "List your jobs, newest first."),
    "show": ("jobs", "show", "Show everything about a job."),
    "cancel": ("jobs", "cancel", "End a job soon; what is labelled stays."),
    "pause": ("jobs", "pause", "Have a job wait; what is labelled stays."),
    "resume": ("jobs", "resume", "Let a paused job go on."),
    "retry": ("jobs", "retry", "Run the failed images of a job again, and no others."),
    "priority": ("jobs", "priority", "Move a job before or behind others."),
    "results": ("results", "results", "Download a job's results."),
    "export": ("exports", "export", "Download a job's result in the format of another tool."),
    "push": ("push", "push", "Send a job's result into a project of Label Studio or CVAT."),
    "exports": ("exports", "exports", "List the exports of a job, newest first."),
    "evaluate": ("evaluate", "evaluate", "Compare a job's result with ground truth."),
    "errors": ("results", "errors", "List the images that could not be labelled."),
    "keys": ("keys", "app", "Make, list and revoke API keys (admin keys only)."),
    "doctor": ("doctor", "doctor", "Check all that a service on this machine needs."),
}


def main() -> None:
    try:
        _group()(prog_name="maskmill")
    except Exception as error:
        message = _expected(error)
        if message is None:
            raise
        typer.echo(f"Error: {printable(message)}", err=True)
        sys.exit(1)


def _group() -> TyperGroup:
    app = typer.Typer(
        help=_HELP, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown"
    )
    app.callback()(_options)
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for name, (module, attribute, line) in COMMANDS.items():
        group.add_command(_LazyCommand(name, module, attribute, line))
    return group


_HELP = """Instance masks for whole image datasets, from prompts you can name, with SAM 3.

On this machine, nothing else needed:

    maskmill label photos/ --prompt "red circle" --prompt star --output labels/

Against a service (MASKMILL_URL, MASKMILL_API_KEY):

    maskmill submit s3://bucket/photos/ --prompt helmet --wait
"""


def _print_version(wanted: bool) -> None:
    if wanted:
        from domain.version import code_version

        typer.echo(f"maskmill {code_version()}")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    pass


class _LazyCommand(TyperCommand):
    """Knows its line of help; everything else is loaded when it is called."""

    def __init__(self, name: str, module: str, attribute: str, line: str) -> None:
        super().__init__(name, help=line)
        self._module = module
        self._attribute = attribute

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        return self._loaded().make_context(*arguments, **options)

    def _loaded(self) -> Any:
        found = getattr(import_module(f"maskmill.cli.{self._module}"), self._attribute)
        if isinstance(found, typer.Typer):
            return get_command(found)
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        app.command(self.name)(found)
        return get_command(app)


def _expected(error: Exception) -> str | None:
    """One line for what a user can do something about; None for a fault of the program."""
    from maskmill.connection import ApiError, MaskmillError, ServiceUnreachableError

    if isinstance(error, ApiError) and error.status == 401:
        return f"{error.message} Set MASKMILL_API_KEY to a key of this service."
    if isinstance(error, ApiError):
        return f"{error.message} ({error.code})"
    if isinstance(error, ServiceUnreachableError):
        return f"{error}. Start it (`maskmill up`), or set MASKMILL_URL."
    if isinstance(error, MaskmillError | OSError):
        return str(error)
    return None
