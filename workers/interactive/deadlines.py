"""Work whose answer nobody awaits any more stops before its next part."""

import math
import time

NEVER = math.inf


def check_time(deadline: float) -> None:
    """`deadline` is a time of time.monotonic(), which no correction of a clock moves. Raises
    TimeoutError after it."""
    if time.monotonic() > deadline:
        raise TimeoutError("nobody awaits this answer any more")
