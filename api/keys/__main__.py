"""`python -m api.keys bootstrap`: makes the first admin key, against MASKMILL_DATABASE_URL.

With MASKMILL_BOOTSTRAP_KEY set, exactly that secret becomes an admin key, however often this is
called. Without it a secret is made and printed once, unless there is an admin key already.
"""

import argparse
import os
import sys

from sqlalchemy import Connection

from storage import keys
from storage.database import Database

MIN_SECRET_LENGTH = 24


class _RefusedError(Exception):
    pass


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    url = os.environ.get("MASKMILL_DATABASE_URL")
    if not url:
        return _fail("set MASKMILL_DATABASE_URL")
    given = os.environ.get("MASKMILL_BOOTSTRAP_KEY")
    database = Database(url, pool_size=1)
    try:
        with database.begin() as connection:
            if given:
                _store_given(connection, given, options.name)
                return 0
            secret = _make(connection, options.name)
    except _RefusedError as error:
        return _fail(str(error))
    finally:
        database.dispose()
    sys.stdout.write(secret + "\n")
    return 0


def _store_given(connection: Connection, secret: str, name: str) -> None:
    if not secret.startswith("mm_") or len(secret) < MIN_SECRET_LENGTH or not secret.isascii():
        raise _RefusedError(
            f"MASKMILL_BOOTSTRAP_KEY must start with mm_ and have {MIN_SECRET_LENGTH} characters"
        )
    key = keys.add_key(connection, name, secret=secret, is_admin=True)
    if key.revoked_at is not None or not key.is_admin:
        raise _RefusedError("the key in MASKMILL_BOOTSTRAP_KEY was revoked, or is no admin's")


def _make(connection: Connection, name: str) -> str:
    if keys.count_admins(connection):
        raise _RefusedError("there is an admin key already; make more with `maskmill keys create`")
    secret = keys.new_secret()
    keys.add_key(connection, name, secret=secret, is_admin=True)
    return secret


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api.keys")
    commands = parser.add_subparsers(required=True)
    bootstrap = commands.add_parser("bootstrap", help="make the first admin key")
    bootstrap.add_argument("--name", default="bootstrap")
    return parser


def _fail(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
