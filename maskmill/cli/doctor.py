"""`maskmill doctor`: works when the API does not, so it asks the parts themselves."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from domain.printable import printable

SERVICE_FILE = "service.json"  # written into its data folder by the embedded stack
_PARTS = ("api.doctor", "workers.doctor")
_SECONDS = 300  # the worker's loads a network


def doctor(
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Check the embedded stack on this data folder. [default: what MASKMILL_* name, "
            "else the stack's usual folder]",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
) -> None:
    """Check all that a service on this machine needs: database, migrations, broker, object
    store, model files, device and disk, and whether workers answer single-image requests.

    A line each, with what to do about it. Ends with 1 when something fails.
    """
    environment = {**os.environ, **_embedded_environment(data)}
    all_ok = True
    for module in _PARTS:
        for check in _checks(module, environment):
            all_ok = all_ok and bool(check["ok"])
            typer.echo(json.dumps(check) if as_json else _line(check))
    raise typer.Exit(0 if all_ok else 1)


def _embedded_environment(data: Path | None) -> dict[str, str]:
    """The MASKMILL_* variables of an embedded stack, from its data folder."""
    if data is None:
        if "MASKMILL_DATABASE_URL" in os.environ:
            return {}
        from maskmill.embedded.data_folder import default_data_folder

        data = default_data_folder()
        if not (data / SERVICE_FILE).exists():
            return {}
    try:
        environment: dict[str, str] = json.loads((data / SERVICE_FILE).read_text())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"no stack has run on {data}: {error}") from error
    return environment


def _checks(module: str, environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", module],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        yield _failure(module, f"no answer in {_SECONDS} s")
        return
    checks = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    yield from checks
    if done.returncode != 0 and all(check["ok"] for check in checks):
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        yield _failure(module, said[-1][:300])


def _failure(module: str, detail: str) -> dict[str, Any]:
    mend = "see what it says: python -m " + module
    return {"check": module, "ok": False, "detail": detail, "mend": mend}


def _line(check: dict[str, Any]) -> str:
    state = "ok  " if check["ok"] else "FAIL"
    mend = "" if check["ok"] else f" -> {check['mend']}"
    return printable(f"{state} {check['check']:<13} {check['detail']}{mend}")
