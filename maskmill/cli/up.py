"""`maskmill up`: the whole service on this machine until Ctrl-C."""

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from domain.printable import printable
from maskmill.cli.options import Device, EngineChoice, PrecisionChoice
from maskmill.engine_choice import engine_environment

DEMO_MODEL = "demo-sam3"


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    data: Annotated[
        Path | None,
        typer.Option(help="Where everything is kept. [default: ~/.local/share/maskmill]"),
    ] = None,
    device: Device = None,
    engine: EngineChoice = None,
    precision: PrecisionChoice = None,
) -> None:
    """Run the whole service on this machine until Ctrl-C: database, queue, API and workers.

    Started again on the same data folder it goes on with unfinished jobs.
    """
    # Here, not above: other commands need no servers, and no Unix.
    from maskmill.embedded import EmbeddedStack, StackError, StackOptions, default_data_folder

    _end_like_ctrl_c()
    options = StackOptions(
        data=data or default_data_folder(),
        host=host,
        port=port,
        extra_environment=engine_environment(engine=engine, device=device, precision=precision),
        announce=typer.echo,
    )
    try:
        with EmbeddedStack(options) as stack:
            _greet(stack.url, stack.api_key, stack.folder.path)
            try:
                stack.wait()
            except KeyboardInterrupt:
                typer.echo("Stopping workers, API, Valkey, PostgreSQL (Ctrl-C again kills them)")
    except KeyboardInterrupt:
        typer.echo("Stopped while starting")
        return
    except StackError as error:
        message = printable(str(error), keep="\n")  # the end of a log
        typer.echo(f"Error: {message}", err=True)
        raise typer.Exit(1) from None
    typer.echo("Stopped")


def _end_like_ctrl_c() -> None:
    """Also where SIGINT came ignored, as in a shell script's background job; nohup is heeded."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def _greet(url: str, api_key: str, data: Path) -> None:
    typer.echo(f"Serving on {url}")
    typer.echo(f"API key: {api_key}")
    typer.echo(f"Data folder: {data}")
    models = os.environ.get("MASKMILL_MODELS", DEMO_MODEL)
    if models.split(",")[0].strip() == DEMO_MODEL:
        typer.echo(
            f"The model is {DEMO_MODEL}: it only knows coloured shapes, not photographs. "
            "MASKMILL_MODELS=facebook/sam3 takes the real one."
        )
