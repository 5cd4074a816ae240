"""Jobs whose store is away are passed over for a while, so that they keep no others waiting."""

import time

SECONDS = 3600.0


class Away:
    """Known to this process alone: another one asks the store once."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, job_id: str) -> None:
        self._until[job_id] = time.monotonic() + SECONDS

    def jobs(self) -> frozenset[str]:
        """Those that are passed over now; the others are forgotten."""
        now = time.monotonic()
        self._until = {job: until for job, until in self._until.items() if until > now}
        return frozenset(self._until)
