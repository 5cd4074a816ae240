"""`python -m api.doctor`: one JSON line per check; exit 1 when one fails. Needs no API running."""

import json
import sys
from dataclasses import asdict

from pydantic import ValidationError

from api.checks import Check, all_checks
from storage.settings import load_settings


def main() -> int:
    try:
        settings = load_settings()
    except ValidationError as error:
        names = ", ".join(f"MASKMILL_{entry['loc'][0]}".upper() for entry in error.errors())
        return _report(Check("settings", False, f"missing or wrong: {names}", "set them"))
    return max([_report(check) for check in all_checks(settings)])


def _report(check: Check) -> int:
    sys.stdout.write(json.dumps(asdict(check)) + "\n")
    sys.stdout.flush()
    return 0 if check.ok else 1


if __name__ == "__main__":
    sys.exit(main())
