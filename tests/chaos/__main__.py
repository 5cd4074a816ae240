"""`python -m tests.chaos`: kills, restarts and store faults for minutes, then a reckoning."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import run
from tests.chaos.schedule import strikes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides the whole schedule")
    parser.add_argument("--seconds", type=float, default=300, help="how long there are faults")
    parser.add_argument("--images", type=int, default=20_000, help="of each job")
    options = parser.parse_args()
    print(f"seed {options.seed}, the schedule:")
    print("\n".join(map(str, strikes(options.seed, seconds=options.seconds))))
    with tempfile.TemporaryDirectory(prefix="maskmill-chaos-") as name:
        Path(name).chmod(0o711)  # PostgreSQL may run as another user
        report = run(Path(name), seed=options.seed, seconds=options.seconds, images=options.images)
    print("\n".join(report.lines()))
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
