"""`maskmill keys create|list|revoke`"""

from typing import Annotated

import typer

from domain.printable import printable

app = typer.Typer(
    help="Make, list and revoke API keys (admin keys only).",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what it is for.")],
    admin: Annotated[bool, typer.Option("--admin", help="May manage keys.")] = False,
) -> None:
    """Make a key. It is printed this once."""
    from maskmill.client import Client

    with Client() as client:
        key = client.create_key(name, is_admin=admin)
    typer.echo(f"{key.id} for {printable(key.name)}; it is shown only now:", err=True)
    typer.echo(key.secret)


@app.command("list")
def list_() -> None:
    """List all keys, without their secrets."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from maskmill.client import Client

    with Client() as client:
        keys = list(client.iter_keys())
    table = Table(
        Column("key", no_wrap=True, min_width=30), "name", "admin", "created", "revoked", box=None
    )
    for key in keys:
        revoked = f"{key.revoked_at:%Y-%m-%d}" if key.revoked_at else ""
        admin = "admin" if key.is_admin else ""
        name = Text(printable(key.name))  # not str: that may hold markup
        table.add_row(key.id, name, admin, f"{key.created_at:%Y-%m-%d}", revoked)
    Console().print(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id: key_....")]) -> None:
    """Refuse a key from now on. Its jobs go on."""
    from maskmill.client import Client

    with Client() as client:
        key = client.revoke_key(key_id)
    typer.echo(f"{key.id} ({printable(key.name)}) is revoked")
