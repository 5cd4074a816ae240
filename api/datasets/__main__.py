"""`python -m api.datasets link FOLDER`: the operator lets jobs read a folder of this machine.

Not part of the REST interface on purpose: over REST no local path is ever accepted.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from storage.database import Database
from storage.datasets import add_dataset
from storage.keys import find_key


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    folder = Path(options.folder).resolve()
    if not folder.is_dir():
        return _fail(f"{folder} is not a folder")
    url, secret = os.environ.get("MASKMILL_DATABASE_URL"), os.environ.get(options.key_env)
    if not url or not secret:
        return _fail(f"set MASKMILL_DATABASE_URL and {options.key_env}")
    database = Database(url, pool_size=1)
    with database.begin() as connection:
        key = find_key(connection, secret)
        if key is None:
            return _fail(f"the key in {options.key_env} is unknown or revoked")
        name = options.name or folder.name or str(folder)
        dataset = add_dataset(connection, key.id, name=name, local_root=str(folder))
    database.dispose()
    sys.stdout.write(json.dumps({"id": dataset.id}) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api.datasets")
    commands = parser.add_subparsers(required=True)
    link = commands.add_parser("link", help="register a local folder as a read-only dataset")
    link.add_argument("folder")
    link.add_argument("--name", help="by default the folder's")
    link.add_argument(
        "--key-env", default="MASKMILL_API_KEY", help="variable that holds the owner's API key"
    )
    return parser


def _fail(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
