"""`python -m migrations upgrade|check|current`, against MASKMILL_DATABASE_URL."""

import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

USAGE = "usage: MASKMILL_DATABASE_URL=... python -m migrations upgrade|check|current"


def configuration(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["database_url"] = database_url
    return config


def main() -> int:
    actions = {
        "upgrade": lambda config: command.upgrade(config, "head"),
        "check": command.check,
        "current": command.current,
    }
    url = os.environ.get("MASKMILL_DATABASE_URL")
    if len(sys.argv) != 2 or sys.argv[1] not in actions or not url:
        sys.stderr.write(USAGE + "\n")
        return 2
    actions[sys.argv[1]](configuration(url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
